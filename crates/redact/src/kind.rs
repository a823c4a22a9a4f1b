//! What can be found.

use std::fmt;

/// A kind of data that is replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Kind {
    /// An e-mail address.
    Email,
    /// A telephone number: with `+` or `00` and a country's code, of North America, or of
    /// mainland China.
    Phone,
    /// A payment card: 13 to 19 digits with a right check digit.
    Card,
    /// A social security number of the United States.
    Ssn,
    /// A resident's identity number of China: 18 places with a date and a right check digit, or
    /// the older 15 with a place and a date.
    ChineseId,
    /// An international bank account number with right check digits.
    Iban,
    /// An address of the internet protocol, version 4 or 6; not a loopback or unspecified one.
    Ip,
    /// A key or token of a known provider's shape.
    ApiKey,
    /// A block of a private key.
    PrivateKey,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Email,
        Self::Phone,
        Self::Card,
        Self::Ssn,
        Self::ChineseId,
        Self::Iban,
        Self::Ip,
        Self::ApiKey,
        Self::PrivateKey,
    ];

    /// A short name, fit for a metric's label.
    #[must_use]
    pub fn label(self) -> &'static str {
        let placeholder = self.placeholder();
        &placeholder[1..placeholder.len() - 1]
    }

    /// What stands in the text instead.
    #[must_use]
    pub fn placeholder(self) -> &'static str {
        match self {
            Self::Email => "[email]",
            Self::Phone => "[phone]",
            Self::Card => "[card]",
            Self::Ssn => "[ssn]",
            Self::ChineseId => "[chinese_id]",
            Self::Iban => "[iban]",
            Self::Ip => "[ip]",
            Self::ApiKey => "[api_key]",
            Self::PrivateKey => "[private_key]",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}
