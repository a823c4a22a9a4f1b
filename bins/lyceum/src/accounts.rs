//! The accounts of the ledger, as the gateway's `/usage` tells them.

use lyceum_core::{Scope, TenantId, UserId};
use lyceum_gateway::{AccountPart, Accounts, UsedPart};
use lyceum_llm::{Ledger, PicoUsd, Statement, Used};

/// Reads the ledger.
#[derive(Debug)]
pub(crate) struct Told(pub Ledger);

impl Accounts for Told {
    fn asked(&self, scope: &Scope) {
        self.0.asked(scope);
    }

    fn user(&self, scope: &Scope) -> AccountPart {
        account(&self.0.user(scope))
    }

    fn tenant(&self, tenant: &TenantId) -> AccountPart {
        account(&self.0.tenant(tenant))
    }

    fn tenants_after(&self, after: Option<&TenantId>, most: usize) -> Vec<(TenantId, AccountPart)> {
        let found = self.0.tenants_after(after, most).into_iter();
        found
            .map(|(name, statement)| (name, account(&statement)))
            .collect()
    }

    fn users_after(
        &self,
        tenant: &TenantId,
        after: Option<&UserId>,
        most: usize,
    ) -> Vec<(UserId, AccountPart)> {
        let found = self.0.users_after(tenant, after, most).into_iter();
        found
            .map(|(name, statement)| (name, account(&statement)))
            .collect()
    }
}

fn account(statement: &Statement) -> AccountPart {
    AccountPart {
        today: used(&statement.today),
        month: used(&statement.month),
        held_usd: usd(statement.held),
        day_limit_usd: statement.day_limit.map(usd),
        day_left_usd: statement.left_today().map(usd),
    }
}

fn used(used: &Used) -> UsedPart {
    UsedPart {
        requests: used.requests,
        model_calls: used.calls,
        input_tokens: used.input.0,
        output_tokens: used.output.0,
        cached_input_tokens: used.cached_input.0,
        cost_usd: usd(used.spent),
    }
}

/// All digits, without the sign of the currency.
fn usd(amount: PicoUsd) -> String {
    amount.to_string().trim_start_matches('$').to_owned()
}
