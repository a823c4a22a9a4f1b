//! Qdrant's errors as the port's.

use lyceum_memory::StoreError;
use qdrant_client::QdrantError;

/// The gRPC codes after which the same call may succeed (gRPC core, "Status codes and their
/// use"): the rest says that something is wrong with the call.
const PASSING: [i32; 6] = [
    1,  // cancelled
    2,  // unknown: the transport failed
    4,  // deadline exceeded
    8,  // resource exhausted
    10, // aborted
    14, // unavailable
];

/// gRPC's code for what is not there.
const NOT_FOUND: i32 = 5;
/// gRPC's code for what is there already.
const ALREADY_EXISTS: i32 = 6;
/// gRPC's code for a refused argument, which older servers give for both.
const INVALID_ARGUMENT: i32 = 3;

fn code(error: &QdrantError) -> Option<i32> {
    match error {
        QdrantError::ResponseError { status } => Some(status.code() as i32),
        QdrantError::ResourceExhaustedError { .. } => Some(8),
        _ => None,
    }
}

/// Whether the collection is not there.
pub(crate) fn is_missing(error: &QdrantError) -> bool {
    code(error) == Some(NOT_FOUND)
}

/// Whether a collection may have been made by somebody else meanwhile.
pub(crate) fn may_exist(error: &QdrantError) -> bool {
    matches!(code(error), Some(ALREADY_EXISTS | INVALID_ARGUMENT))
}

pub(crate) fn failure(error: QdrantError) -> StoreError {
    let passes = match &error {
        QdrantError::Io(_) => true,
        other => code(other).is_some_and(|code| PASSING.contains(&code)),
    };
    let source = Box::new(error);
    match passes {
        true => StoreError::Unavailable { source },
        false => StoreError::Internal { source },
    }
}

/// What the server answered makes no sense.
#[derive(Debug, thiserror::Error)]
#[error("read the server's answer: {0} is missing or has another form")]
pub(crate) struct Malformed(pub(crate) &'static str);

impl From<Malformed> for StoreError {
    fn from(malformed: Malformed) -> Self {
        Self::Internal {
            source: Box::new(malformed),
        }
    }
}
