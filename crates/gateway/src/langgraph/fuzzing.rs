//! Texts in LangGraph requests, and their bodies before anything is looked up, for any bytes.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{
    commands, expiry::Ttl, extract::extract, messages, request, run_body, schedule::Schedule,
    shelf::item_id, states,
};

/// Ids, namespaces, paths and schedules.
pub(crate) fn text(text: &str) {
    if let Some(at) = states::parse(text)
        // The one number that no checkpoint has.
        && at.id.0 <= u64::MAX / 2
    {
        let written = states::checkpoint_id(at);
        assert_eq!(states::parse(&written), Some(at), "{text:?} {written}");
    }
    let _ = states::namespace(text);
    if let Ok(id) = request::uuid(text) {
        assert_eq!(request::uuid(&id).ok().as_ref(), Some(&id));
    }
    let mut threads = [json!({ "values": { "messages": [1, 2] } })];
    let _ = extract(Some(&json!({ "it": text })), &mut threads);
    let names: Vec<_> = text.split('.').map(str::to_owned).collect();
    let _ = item_id(&names, text);
    for zone in [None, Some("Europe/Berlin"), Some(text)] {
        let Ok(schedule) = Schedule::parse(text, zone) else {
            continue;
        };
        let now = Timestamp::UNIX_EPOCH;
        assert!(schedule.after(now).is_ok_and(|next| next > now), "{text:?}");
    }
}

/// A body, as far as it is understood without what it names.
pub(crate) fn body(body: &Value) {
    let none = Map::new();
    let fields = body.as_object().unwrap_or(&none);
    if run_body::check(body).is_ok() {
        assert!(fields.get("assistant_id").is_some_and(Value::is_string));
    }
    let _ = Ttl::read(fields.get("ttl"));
    let _ = commands::subscription(fields);
    let mut threads = [body.clone()];
    let is_object = body.is_object();
    if is_object {
        let _ = extract(fields.get("extract"), &mut threads);
    }
    let filter = fields.get("filter").and_then(Value::as_object);
    let _ = request::has_matching(body, filter.unwrap_or(&none));
    assert!(
        !is_object || request::has(body, fields),
        "it has its own fields"
    );
    if let Ok(said) = serde_json::from_value::<messages::Messages>(body.clone()) {
        let mut all = messages::Messages::default();
        messages::add_messages(&mut all, said);
    }
}
