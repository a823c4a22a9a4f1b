//! `lyceum cost`: what models cost, and what a month would.

use std::{fmt::Write, fs};

use anyhow::{Context, Result, bail};
use lyceum_llm::{MonthlyEstimate, Price, PriceTable, Workload};
use serde::Serialize;

use crate::{
    banner,
    cli::{CostCommand, EstimateOptions, PriceOptions},
};

/// What is printed when no model is named: small current models of several providers.
const MODELS: [&str; 6] = [
    "claude-haiku-4-5",
    "claude-sonnet-4-5",
    "gpt-4.1-mini",
    "deepseek-chat",
    "qwen-plus",
    "doubao-seed-2-1-lite",
];

/// Does what was asked.
///
/// # Errors
///
/// A file of prices that cannot be used, a model without a price.
pub(crate) fn run(command: &CostCommand) -> Result<()> {
    match command {
        CostCommand::Estimate(options) => estimate(options),
        CostCommand::Prices(options) => prices(options),
    }
}

/// The prices compiled in, with those of a file in their place.
///
/// # Errors
///
/// A file that cannot be read or has another form.
pub(crate) fn table(file: Option<&std::path::Path>) -> Result<PriceTable> {
    let Some(file) = file else {
        return Ok(PriceTable::built_in());
    };
    let wrong = || format!("cannot use the prices in {}", file.display());
    let text = fs::read_to_string(file).with_context(wrong)?;
    let own = PriceTable::parse(&text).with_context(wrong)?;
    Ok(PriceTable::built_in().with(own))
}

/// One model's month in JSON; money in picodollars and, for people, in dollars.
#[derive(Serialize)]
struct Row<'a> {
    model: &'a str,
    estimate: MonthlyEstimate,
    before_usd: f64,
    after_usd: f64,
    saved_usd: f64,
}

fn estimate(options: &EstimateOptions) -> Result<()> {
    for (flag, share) in [
        ("--cache-hit-rate", options.cache_hit_rate),
        ("--prompt-cache-rate", options.prompt_cache_rate),
    ] {
        if !(0.0..=1.0).contains(&share) {
            bail!("{flag}: {share} is outside 0 to 1");
        }
    }
    let table = table(options.prices.prices.as_deref())?;
    let work = Workload {
        users: options.users,
        calls_per_user: options.calls_per_user,
        days: options.days,
        input_tokens: options.input_tokens,
        output_tokens: options.output_tokens,
        cache_hit_rate: options.cache_hit_rate,
        prompt_cache_rate: options.prompt_cache_rate,
    };
    let named: Vec<&str> = match options.model.is_empty() {
        true => MODELS.to_vec(),
        false => options.model.iter().map(String::as_str).collect(),
    };
    let mut rows = Vec::new();
    for model in named {
        let price = table.price(model).with_context(|| {
            format!("no price is known of {model:?}: `lyceum cost prices` prints the known ones, --prices FILE adds others")
        })?;
        let estimate = MonthlyEstimate::new(&work, &price);
        rows.push(Row {
            model,
            estimate,
            before_usd: estimate.before.cost.dollars(),
            after_usd: estimate.after.cost.dollars(),
            saved_usd: estimate.saved().dollars(),
        });
    }
    if options.prices.json {
        let whole = serde_json::json!({
            "workload": work, "prices_valid": table.valid(), "models": rows,
        });
        return banner::say(&serde_json::to_string_pretty(&whole)?);
    }
    let first = rows.first().context("no model was named")?;
    let mut text = format!(
        "{} users x {} calls a day x {} days = {} calls a month, {} after the answer cache\n\
         {} input and {} output tokens a call; prices of {}\n\n",
        work.users,
        work.calls_per_user,
        work.days,
        first.estimate.before.calls,
        first.estimate.after.calls,
        work.input_tokens,
        work.output_tokens,
        table.valid(),
    );
    let _ = writeln!(
        text,
        "{:<28} {:>14} {:>14} {:>14} {:>7}",
        "model", "before caching", "after caching", "saved", ""
    );
    for row in rows {
        let share = match row.before_usd > 0.0 {
            true => 100.0 * row.saved_usd / row.before_usd,
            false => 0.0,
        };
        let _ = writeln!(
            text,
            "{:<28} {:>14} {:>14} {:>14} {:>6.1}%",
            row.model,
            dollars(row.before_usd),
            dollars(row.after_usd),
            dollars(row.saved_usd),
            share,
        );
    }
    banner::say(text.trim_end())
}

fn dollars(amount: f64) -> String {
    format!("${amount:.2}")
}

fn prices(options: &PriceOptions) -> Result<()> {
    let table = table(options.prices.as_deref())?;
    let of = |price: &Price| {
        // So many picodollars a token are so many millionths of a dollar per million tokens.
        [
            price.input,
            price.output,
            price.cache_read,
            price.cache_write,
        ]
        .map(|price| price.0 as f64 / 1e6)
    };
    if options.json {
        let models: serde_json::Map<_, _> = table
            .models()
            .map(|(name, price)| {
                let [input, output, read, write] = of(price);
                let fields = serde_json::json!({
                    "input": input, "output": output, "cache_read": read, "cache_write": write,
                });
                (name.to_owned(), fields)
            })
            .collect();
        let whole = serde_json::json!({"valid": table.valid(), "models": models});
        return banner::say(&serde_json::to_string_pretty(&whole)?);
    }
    let mut text = format!(
        "Dollars per million tokens; prices of {}\n\n",
        table.valid()
    );
    let _ = writeln!(
        text,
        "{:<28} {:>10} {:>10} {:>10} {:>11}",
        "model", "input", "output", "cache read", "cache write"
    );
    for (name, price) in table.models() {
        let [input, output, read, write] = of(price);
        let _ = writeln!(
            text,
            "{name:<28} {input:>10} {output:>10} {read:>10} {write:>11}"
        );
    }
    banner::say(text.trim_end())
}
