//! `lyceum capacity`: what so many people at once need, in keys, replicas, database and money.

mod measured;
mod plan;

use std::{fmt::Write as _, time::Duration};

use anyhow::{Context, Result, bail};
use lyceum_queue::{Quotas, simulation::People};

use crate::{banner, cli::CapacityOptions, cost};
use measured::Measured;
use plan::{Plan, Wanted, parts, plan};

/// What is priced when no model is named.
const MODELS: [&str; 3] = ["deepseek-chat", "gpt-4.1-mini", "claude-sonnet-4-5"];

/// Simulates, plans and prints.
///
/// # Errors
///
/// An argument outside its range, a model without a price.
pub(crate) fn run(options: &CapacityOptions) -> Result<()> {
    let wanted = wanted(options)?;
    let table = cost::table(options.prices.prices.as_deref())?;
    let named: Vec<&str> = match options.model.is_empty() {
        true => MODELS.to_vec(),
        false => options.model.iter().map(String::as_str).collect(),
    };
    let mut prices = Vec::new();
    for model in named {
        let price = table.price(model).with_context(|| {
            format!("no price is known of {model:?}: `lyceum cost prices` prints the known ones, --prices FILE adds others")
        })?;
        prices.push((model, price));
    }
    let measured = Measured::built_in()?;
    let plan = plan(&wanted, &measured);
    let costs: Vec<(&str, [f64; 2])> = prices
        .iter()
        .map(|(model, price)| (*model, plan.costs(&wanted, price)))
        .collect();
    if options.prices.json {
        let models: Vec<_> = costs
            .iter()
            .map(|(model, [hour, month])| {
                serde_json::json!({"model": model, "hour_usd": hour, "month_usd": month})
            })
            .collect();
        let whole = serde_json::json!({
            "plan": plan, "holds": plan.holds(), "measured": measured,
            "models": models, "prices_valid": table.valid(),
        });
        return banner::say(&serde_json::to_string_pretty(&whole)?);
    }
    let mut text = people(options, &plan);
    provider(&mut text, options, &plan);
    targets(&mut text, &plan);
    rest(&mut text, options, &plan);
    for (model, [hour, month]) in costs {
        let _ = writeln!(
            text,
            "           {model:<20} ${} an hour, ${} a month",
            whole(hour),
            whole(month)
        );
    }
    text.push_str(&trust(&measured, table.valid()));
    banner::say(text.trim_end())
}

fn wanted(options: &CapacityOptions) -> Result<Wanted> {
    for (flag, share) in [
        ("--cache-hit-rate", options.cache_hit_rate),
        ("--tool-share", options.tool_share),
        ("--overlap", options.overlap),
    ] {
        if !(0.0..=1.0).contains(&share) {
            bail!("{flag}: {share} is outside 0 to 1");
        }
    }
    for (flag, value) in [
        ("--users", f64::from(options.users)),
        ("--calls-per-round", f64::from(options.calls_per_round)),
        ("--rpm", options.rpm as f64),
        ("--concurrency", f64::from(options.concurrency)),
        ("--speed", options.speed),
        ("--cores", options.cores),
        ("--memory-gib", options.memory_gib),
    ] {
        if value.is_nan() || value <= 0.0 {
            bail!("{flag}: {value} is not above 0");
        }
    }
    let parts = parts(options.users);
    if let Some(keys) = options.keys
        && (keys == 0 || !keys.is_multiple_of(parts))
    {
        match parts {
            1 => bail!("--keys: {keys} is not above 0"),
            _ => bail!(
                "--keys: {keys} cannot be divided: so many people are planned in {parts} equal \
                 parts, each with as many keys; give a multiple of {parts}"
            ),
        }
    }
    let seconds = |flag: &str, value: f64| match Duration::try_from_secs_f64(value) {
        Ok(duration) if value <= 86_400.0 => Ok(duration),
        _ => bail!("{flag}: {value} is outside 0 to 86400"),
    };
    let defaults = People::default();
    Ok(Wanted {
        people: options.users,
        load: People {
            think: seconds("--think", options.think)?,
            calls: options.calls_per_round,
            overlap: options.overlap,
            input: options.input_tokens,
            output: options.output_tokens,
            max_output: options.output_tokens.saturating_mul(4).max(1),
            first_token: seconds("--first-token", options.first_token)?,
            speed: options.speed,
            cached: options.cache_hit_rate,
            tools: options.tool_share,
            ..defaults
        },
        quotas: Quotas {
            requests: Some(options.rpm),
            tokens: options.tpm,
            concurrency: Some(options.concurrency),
            ..Quotas::default()
        },
        keys: options.keys,
        cores: options.cores,
        memory_bytes: options.memory_gib * f64::from(1 << 30),
        hours: options.hours_per_day,
        days: options.days,
    })
}

fn people(options: &CapacityOptions, plan: &Plan) -> String {
    let mut text = format!(
        "people     {} at once, who ask again {} s after an answer on average; \
         1 to 3 rounds of {} calls\n",
        grouped(f64::from(plan.people)),
        options.think,
        options.calls_per_round
    );
    if plan.parts > 1 {
        let _ = writeln!(
            text,
            "           in {} equal parts with keys of their own, of which one was simulated",
            grouped(f64::from(plan.parts))
        );
    }
    let _ = writeln!(
        text,
        "answers    {} a minute, {} under way on average",
        grouped(plan.answers_per_minute),
        grouped(plan.under_way)
    );
    text
}

fn provider(text: &mut String, options: &CapacityOptions, plan: &Plan) {
    let tokens = options.tpm.map_or_else(String::new, |tpm| {
        format!(", {} tokens", grouped(tpm as f64))
    });
    let of_a_part = plan.keys / plan.parts;
    let each = match (plan.parts, of_a_part) {
        (1, _) => String::new(),
        (_, 1) => ", one in each part".to_owned(),
        (_, keys) => format!(", {} in each part", grouped(f64::from(keys))),
    };
    // A part has one key at least, however little of it is used.
    let fewest = match plan.fewest && (plan.parts == 1 || of_a_part > 1) {
        true => ", the fewest",
        false => "",
    };
    let _ = writeln!(
        text,
        "provider   {} {} of {} calls{tokens} a minute and {} at once{each}{fewest}\n\
         \x20          {} calls a minute, {:.0} % of the quota, {} beyond it; a call waits {:.1} s at p50, {:.1} s at p99",
        grouped(f64::from(plan.keys)),
        if plan.keys == 1 { "key" } else { "keys" },
        options.rpm,
        options.concurrency,
        grouped(plan.calls_per_minute),
        100.0 * plan.quota_used,
        plan.beyond_quota,
        plan.call_wait_p50_seconds,
        plan.call_wait_p99_seconds,
    );
}

fn targets(text: &mut String, plan: &Plan) {
    text.push_str("targets\n");
    for target in &plan.targets {
        let (value, below) = match target.unit {
            "%" => (
                format!("{:.1} %", 100.0 * target.value),
                format!("{} %", 100.0 * target.below),
            ),
            unit => (
                format!("{:.1} {unit}", target.value),
                format!("{} {unit}", target.below),
            ),
        };
        let _ = writeln!(
            text,
            "  {} {:<27} {:>9} of {}",
            if target.is_met() { "ok    " } else { "MISSED" },
            target.name,
            value.trim_end(),
            below.trim_end()
        );
    }
}

fn rest(text: &mut String, options: &CapacityOptions, plan: &Plan) {
    let _ = writeln!(
        text,
        "servers    {} replicas of {} cores and {} GiB, one of which may be gone; \
         {:.1} cores busy, {} MB in each\n\
         \x20          one carries {} people by its CPU, {} by its memory, {} by its limit of streams\n\
         database   {} transactions a second, {:.1} cores; {} GB more a month\n\
         price      {} input and {} output tokens an answer, {} answers a month \
         ({} days of {} h at this load)",
        grouped(f64::from(plan.replicas)),
        options.cores,
        options.memory_gib,
        plan.server_cores,
        grouped(plan.memory_bytes_per_replica / 1e6),
        grouped(plan.people_per_replica[0]),
        grouped(plan.people_per_replica[1]),
        grouped(plan.people_per_replica[2]),
        grouped(plan.database_transactions_per_second),
        plan.database_cores,
        grouped(plan.database_bytes_per_month / 1e9),
        grouped(plan.input_tokens_per_answer),
        grouped(plan.output_tokens_per_answer),
        grouped(plan.answers_per_month),
        options.days,
        options.hours_per_day,
    );
}

fn trust(measured: &Measured, valid: &str) -> String {
    format!(
        "\nMeasured on {} ({}):\n\
         \x20 a turn of somebody who taught 3,000 before: {:.2} ms of CPU, {} model calls, {} bytes in SQLite; in PostgreSQL {:.2} ms, {} transactions, {} bytes\n\
         \x20 a discussion {:.2} ms of CPU, {:.1} model calls, {} input tokens; an open stream {} kB of memory\n\
         Simulated, with the server's own queue: waiting and the quota. Assumed, and yours to set: people, model, quota.\n\
         Not in it: failures of the provider, retries, a database beyond one machine. Prices of {valid}.\n",
        measured.day,
        measured.machine,
        measured.turn.cpu_us / 1e3,
        measured.turn.model_calls,
        grouped(measured.turn.store_bytes),
        measured.postgres.cpu_us / 1e3,
        measured.postgres.transactions,
        grouped(measured.postgres.bytes),
        measured.discussion.cpu_us / 1e3,
        measured.discussion.model_calls,
        grouped(measured.discussion.input_tokens),
        grouped(measured.server.stream_bytes / 1e3),
    )
}

/// A rounded number with its thousands apart.
fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.max(0.0));
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Dollars: with cents while they matter.
fn whole(dollars: f64) -> String {
    if dollars < 100.0 {
        format!("{dollars:.2}")
    } else {
        grouped(dollars)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_apart() {
        assert_eq!(grouped(999.4), "999");
        assert_eq!(grouped(1_234_567.0), "1,234,567");
        assert_eq!(whole(9.876), "9.88");
        assert_eq!(whole(1_000.4), "1,000");
    }
}
