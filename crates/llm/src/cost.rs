//! What calls cost: prices as data, exact sums, and budgets that stop before they are
//! overspent.
//!
//! Money is counted in whole millionths of a millionth of a dollar, so that no sum is
//! rounded. Deliberately absent: currencies, taxes, batch and long-prompt prices.

mod ledger;
mod money;
mod monthly;
mod priced;
mod prices;
mod totals;
mod used;

pub use ledger::{Budgets, Hold, Ledger, Spent};
pub use money::{MoneyError, PicoUsd};
pub use monthly::{Month, MonthlyEstimate, Workload};
pub use priced::Priced;
pub(crate) use priced::is_free;
pub use prices::{Price, PriceError, PriceTable};
pub use used::{Book, Entry, Statement, Used, UserBudgets};
