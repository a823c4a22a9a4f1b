//! The collection of one space: its name, its making, its indexes.

use lyceum_memory::{StoreError, VectorSpace};
use qdrant_client::{
    Qdrant,
    qdrant::{
        CreateCollectionBuilder, CreateFieldIndexCollectionBuilder, Distance, FieldType,
        KeywordIndexParamsBuilder, VectorParamsBuilder, vectors_config::Config,
    },
};
use sha2::{Digest, Sha256};

use crate::{
    failure::{Malformed, failure, is_missing, may_exist},
    point::{AGENT, TENANT, USER},
};

/// The name of a space's collection: what a person recognises, and a digest that tells models
/// of similar names apart.
pub(crate) fn name(prefix: &str, space: &VectorSpace) -> String {
    let digest = Sha256::digest(space.model.as_bytes());
    let digest: String = digest[..6]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let readable = |c: char| match c.is_ascii_alphanumeric() {
        true => c.to_ascii_lowercase(),
        false => '_',
    };
    let model: String = space.model.chars().take(40).map(readable).collect();
    format!("{prefix}_{model}_{digest}_{}", space.dimensions)
}

/// Makes the collection unless it is there; says whether it was made now.
///
/// # Errors
///
/// [`StoreError::Dimensions`] when it is there for vectors of another shape.
pub(crate) async fn ensure(
    client: &Qdrant,
    name: &str,
    space: &VectorSpace,
) -> Result<bool, StoreError> {
    if check(client, name, space).await? {
        return Ok(false);
    }
    let size = space.dimensions as u64;
    let vectors = VectorParamsBuilder::new(size, Distance::Cosine);
    let create = CreateCollectionBuilder::new(name).vectors_config(vectors);
    if let Err(error) = client.create_collection(create).await {
        // Another process may have made it.
        if may_exist(&error) && check(client, name, space).await? {
            return Ok(false);
        }
        return Err(failure(error));
    }
    for field in [TENANT, USER, AGENT] {
        let params = KeywordIndexParamsBuilder::default().is_tenant(field == TENANT);
        let index = CreateFieldIndexCollectionBuilder::new(name, field, FieldType::Keyword)
            .field_index_params(params)
            .wait(true);
        client.create_field_index(index).await.map_err(failure)?;
    }
    Ok(true)
}

/// Whether the collection is there, for vectors of this shape.
async fn check(client: &Qdrant, name: &str, space: &VectorSpace) -> Result<bool, StoreError> {
    let info = match client.collection_info(name.to_owned()).await {
        Ok(info) => info,
        Err(error) if is_missing(&error) => return Ok(false),
        Err(error) => return Err(failure(error)),
    };
    let config = info
        .result
        .and_then(|info| info.config)
        .and_then(|config| config.params)
        .and_then(|params| params.vectors_config)
        .and_then(|vectors| vectors.config);
    let Some(Config::Params(params)) = config else {
        return Err(Malformed("the shape of a collection").into());
    };
    let found = usize::try_from(params.size).unwrap_or(usize::MAX);
    match found == space.dimensions {
        true => Ok(true),
        false => Err(StoreError::Dimensions {
            found,
            expected: space.dimensions,
        }),
    }
}
