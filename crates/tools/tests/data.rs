//! Questions to tables in files.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use lyceum_core::{Tool, ToolError};
use lyceum_tools::Data;
use serde_json::{Value, json};
use support::call;
use tempfile::TempDir;

const PLANTS: &str = "\u{feff}Name,Family,Height,Code\nmoss,low,3,007\nfern,low,60,12\n\
    oak,tree,2500,\n\"birch, white\",tree,2000,5\nweed,,x,1\n";

async fn data(files: &[(&str, &str)]) -> (TempDir, Result<Data, lyceum_tools::DataError>) {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let data = Data::open(folder.path()).await;
    (folder, data)
}

async fn asked(query: Value) -> Result<String, ToolError> {
    let json = r#"[{"id": 1, "tags": ["a"], "note": null}, {"id": 2, "more": "x"}]"#;
    let (_folder, data) = data(&[("plants.csv", PLANTS), ("notes.json", json)]).await;
    let output = data.unwrap().call(&call(), query).await;
    output.map(|output| output.content)
}

#[tokio::test]
async fn rows_are_filtered_picked_and_sorted() {
    let query = json!({
        "table": "plants.csv", "columns": ["name", "HEIGHT"], "sort_by": "height",
        "descending": true, "filter": [{"column": "height", "is": "more", "value": 10}],
    });
    let expected = "Name | Height\noak | 2500\nbirch, white | 2000\nfern | 60\n(3 of 3 rows)";
    assert_eq!(asked(query).await.unwrap(), expected);
    for (is, column, value, expected) in [
        ("equal", "code", json!("007"), "(1 of 1 rows)"),
        ("equal", "code", json!(7), "(0 of 0 rows)"),
        ("contains", "name", json!("BIRCH"), "(1 of 1 rows)"),
        ("empty", "code", json!(null), "(1 of 1 rows)"),
        ("not_equal", "family", json!("tree"), "(3 of 3 rows)"),
        ("at_most", "height", json!("60"), "(2 of 2 rows)"),
    ] {
        let filter = json!([{"column": column, "is": is, "value": value}]);
        let query = json!({"table": "plants.csv", "filter": filter});
        let answer = asked(query).await.unwrap();
        assert!(answer.ends_with(expected), "{is} {value}: {answer}");
    }
}

#[tokio::test]
async fn groups_are_measured() {
    let query = json!({
        "table": "plants.csv", "group_by": ["family"], "sort_by": "mean(height)",
        "measures": [{"what": "count"}, {"what": "mean", "column": "height"}],
    });
    let expected =
        "Family | count | mean(Height)\nlow | 2 | 31.5\ntree | 2 | 2250\n | 1 | \n(3 of 3 rows)";
    assert_eq!(asked(query).await.unwrap(), expected);
    let query = json!({"table": "plants.csv", "measures": [
        {"what": "sum", "column": "height"}, {"what": "least", "column": "height"},
        {"what": "most", "column": "height"}]});
    let expected = "sum(Height) | least(Height) | most(Height)\n4563 | 3 | 2500\n(1 of 1 rows)";
    assert_eq!(asked(query).await.unwrap(), expected);
}

#[tokio::test]
async fn json_is_a_table_too() {
    let answer = asked(json!({"table": "notes.json"})).await.unwrap();
    let expected = "id | note | tags | more\n1 |  | [\"a\"] | \n2 |  |  | x\n(2 of 2 rows)";
    assert_eq!(answer, expected);
}

#[tokio::test]
async fn what_cannot_be_answered_is_told_in_words_to_go_on_with() {
    for (query, words) in [
        (
            json!({"table": "../secret.csv"}),
            "there are: notes.json, plants.csv",
        ),
        (
            json!({"table": "plants.csv", "columns": ["x"]}),
            "there are: Name, Family",
        ),
        (
            json!({"table": "plants.csv", "group_by": ["name"]}),
            "needs measures",
        ),
        (
            json!({"table": "plants.csv", "measures": [{"what": "sum"}]}),
            "sum needs a column",
        ),
        (
            json!({"table": "plants.csv", "sort_by": "x"}),
            "the answer has no column",
        ),
        (
            json!({"table": "plants.csv", "sql": "drop table"}),
            "unknown field",
        ),
    ] {
        let error = asked(query).await.unwrap_err();
        assert!(matches!(error, ToolError::Arguments { .. }), "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[tokio::test]
async fn a_folder_that_is_no_data_is_refused_and_links_are_not_followed() {
    for (name, text) in [("a.json", "{}"), ("a.json", "[1]"), ("a.csv", "")] {
        let (_folder, data) = data(&[(name, text)]).await;
        assert!(data.is_err(), "{name} {text}");
    }
    let (secret, _) = data(&[("secret.csv", "a\n1\n")]).await;
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("link.csv");
    std::os::unix::fs::symlink(secret.path().join("secret.csv"), link).unwrap();
    let data = Data::open(folder.path()).await.unwrap();
    assert!(
        data.call(&call(), json!({"table": "link.csv"}))
            .await
            .is_err()
    );
}
