//! A tool of your own from a function: its schema comes from the type of its arguments.

use std::{fmt, marker::PhantomData, sync::Arc};

use async_trait::async_trait;
use lyceum_core::{
    Approval, Audience, CallContext, Effect, Tool, ToolError, ToolOutput, ToolSpec, ToolTraits,
};
use schemars::{JsonSchema, generate::SchemaSettings};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{Limited, ToolPolicy, arguments};

/// A tool that runs a function on arguments of the type `A`.
///
/// # Examples
///
/// ```
/// use lyceum_core::{Audience, ToolOutput};
/// use lyceum_tools::{ToolPolicy, TypedTool};
/// use schemars::JsonSchema;
/// use serde::Deserialize;
///
/// #[derive(Deserialize, JsonSchema)]
/// struct Arguments {
///     /// A word of English.
///     word: String,
/// }
///
/// let tool = TypedTool::new("length", "Counts letters.", async |_, Arguments { word }| {
///     Ok(ToolOutput::text(word.chars().count().to_string()))
/// });
/// let tool = tool.reads(Audience::Public).limited(ToolPolicy::default());
/// ```
pub struct TypedTool<A, F> {
    spec: ToolSpec,
    traits: ToolTraits,
    run: F,
    takes: PhantomData<fn(A)>,
}

impl<A, F, R> TypedTool<A, F>
where
    A: DeserializeOwned + JsonSchema + Send + 'static,
    F: Fn(CallContext, A) -> R + Send + Sync + 'static,
    R: Future<Output = Result<ToolOutput, ToolError>> + Send + 'static,
{
    /// A tool of this name, 1 to 64 characters of `A-Z a-z 0-9 _ -`. The model decides by
    /// the description, and by the doc comments of `A`, when and how to call it.
    ///
    /// Until told otherwise every call counts and results are the caller's own.
    #[must_use]
    pub fn new(name: impl Into<String>, description: impl Into<String>, run: F) -> Self {
        Self {
            spec: ToolSpec::new(name, description, schema::<A>()),
            traits: ToolTraits::default(),
            run,
            takes: PhantomData,
        }
    }

    /// It changes nothing: results may be kept for this audience, failed calls repeated.
    #[must_use]
    pub fn reads(mut self, audience: Audience) -> Self {
        self.traits.effect = Effect::Reads;
        self.traits.audience = audience;
        self
    }

    /// Twice is as good as once: failed calls may be repeated.
    #[must_use]
    pub fn idempotent(mut self) -> Self {
        self.traits.effect = Effect::Idempotent;
        self
    }

    /// A person must agree to every call.
    #[must_use]
    pub fn needs_approval(mut self) -> Self {
        self.traits.approval = Approval::Needed;
        self
    }

    /// The same under a policy.
    #[must_use]
    pub fn limited(self, policy: ToolPolicy) -> Limited {
        Limited::new(Arc::new(self), policy)
    }
}

impl<A, F> fmt::Debug for TypedTool<A, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypedTool")
            .field("spec", &self.spec)
            .field("traits", &self.traits)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl<A, F, R> Tool for TypedTool<A, F>
where
    A: DeserializeOwned + JsonSchema + Send + 'static,
    F: Fn(CallContext, A) -> R + Send + Sync + 'static,
    R: Future<Output = Result<ToolOutput, ToolError>> + Send + 'static,
{
    fn spec(&self) -> &ToolSpec {
        &self.spec
    }

    fn traits(&self) -> ToolTraits {
        self.traits
    }

    async fn call(&self, call: &CallContext, value: Value) -> Result<ToolOutput, ToolError> {
        (self.run)(call.clone(), arguments(value)?).await
    }
}

/// The JSON schema of a type, without what a model does not need.
pub(crate) fn schema<A: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut schema = settings.into_generator().into_root_schema_for::<A>();
    schema.remove("title");
    schema.into()
}
