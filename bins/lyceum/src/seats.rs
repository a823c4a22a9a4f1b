//! Who sits at the panel, and what the student may spend, as configured.

use std::fs;

use anyhow::{Context, Result, bail};
use lyceum_agents::{
    MaxCost, Mind, ReActLimits, TokenRates,
    panel::{Overlap, Panel, PanelConfig, Seat, Seats},
};
use lyceum_core::{MicroUsd, Tokens};
use lyceum_llm::PicoUsd;

use crate::{
    config::{self, Config, PanelSeat},
    cost,
};

/// The panel.
///
/// # Errors
///
/// A number out of range, or a file of instructions that cannot be read.
pub(crate) fn panel(config: &config::Panel, mind: &Mind) -> Result<Panel> {
    if !(1..=3).contains(&config.rounds) {
        bail!("panel.rounds: must be between 1 and 3");
    }
    let seat = |name: &str, seat: &PanelSeat| {
        let prompt = seat.prompt.as_ref().map(|path| {
            let wrong = || format!("panel.{name}.prompt: read {}", path.display());
            fs::read_to_string(path).with_context(wrong)
        });
        anyhow::Ok(Seat {
            mind: mind.clone(),
            model: seat.model.clone(),
            prompt: prompt.transpose()?,
        })
    };
    let seats = Seats {
        planner: seat("planner", &config.planner)?,
        critic: seat("critic", &config.critic)?,
        host: seat("host", &config.host)?,
        reporter: seat("reporter", &config.reporter)?,
    };
    let config = PanelConfig {
        rounds: config.rounds,
        overlap: match config.overlap {
            0 => Overlap::None,
            claims => Overlap::AfterClaims(claims),
        },
    };
    Ok(Panel::new(seats, config)?)
}

/// What looking for gaps may spend; `model` is the one that answers, if any.
///
/// # Errors
///
/// A sum that is none, or one for a model without a price.
pub(crate) fn limits(config: &Config, model: Option<&str>) -> Result<ReActLimits> {
    let limits = ReActLimits::default();
    let (Some(dollars), Some(model)) = (config.student.turn_usd, model) else {
        return Ok(limits);
    };
    if !(dollars > 0.0 && dollars <= 1_000.0) {
        bail!("student.turn_usd: must be above 0 and at most 1000");
    }
    let table = cost::table(config.cost.prices.as_deref())?;
    let Some(price) = table.price(model) else {
        bail!(
            "student.turn_usd: there is no price for {model}: name a file with it as cost.prices"
        );
    };
    let a_million = |token: PicoUsd| token.times(Tokens(1_000_000)).to_micro();
    Ok(ReActLimits {
        max_cost: Some(MaxCost {
            total: MicroUsd((dollars * 1e6).round() as u64),
            rates: TokenRates {
                input: a_million(price.input),
                output: a_million(price.output),
                cached_input: a_million(price.cache_read),
                cache_write: a_million(price.cache_write),
            },
        }),
        ..limits
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turns_dollars_are_the_models_prices() {
        let mut config = Config::default();
        assert!(
            limits(&config, Some("claude-sonnet-4-5"))
                .unwrap()
                .max_cost
                .is_none()
        );
        config.student.turn_usd = Some(0.05);
        let most = limits(&config, Some("claude-sonnet-4-5"))
            .unwrap()
            .max_cost
            .unwrap();
        assert_eq!(most.total, MicroUsd(50_000));
        assert_eq!(most.rates.output, MicroUsd(15_000_000));
        let error = limits(&config, Some("unheard-of")).unwrap_err().to_string();
        assert!(error.contains("no price for unheard-of"), "{error}");
    }

    #[test]
    fn a_seat_without_its_file_is_refused() {
        let mut config = config::Panel::default();
        assert!(panel(&config, &Mind::Offline).is_ok());
        config.critic.prompt = Some("/nowhere/critic.md".into());
        let error = panel(&config, &Mind::Offline).unwrap_err().to_string();
        assert!(error.contains("panel.critic.prompt"), "{error}");
    }
}
