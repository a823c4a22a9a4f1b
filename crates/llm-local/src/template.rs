//! Chat templates: the conversation as the text the model was trained on.
//!
//! Templates are programs from an untrusted file: they run in minijinja without access
//! to anything, with bounded fuel. Invariant: an opened template has rendered a sample
//! conversation. Deliberately absent: the date (`strftime_now`), so that the same
//! conversation always gives the same prompt and the prefix cache keeps working; tools.

use lyceum_core::{Content, Message, Part};
use minijinja::{Environment, Error, ErrorKind, Value, context, syntax::SyntaxConfig};

use crate::{OpenError, gguf::Gguf, tokenizer::Vocabulary};

/// Instructions a template may execute for one prompt: thousands of messages' worth.
const FUEL: u64 = 5_000_000;

const NAME: &str = "chat";

/// ChatML, the form used when a file's own template fails although its vocabulary has
/// ChatML's control tokens.
const CHATML: &str = "{% for message in messages %}<|im_start|>{{ message.role }}\n\
    {{ message.content }}<|im_end|>\n{% endfor %}\
    {% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";

/// Renders conversations into prompts.
#[derive(Debug)]
pub(crate) struct ChatTemplate {
    environment: Environment<'static>,
    begin: String,
    end: String,
}

impl ChatTemplate {
    pub(crate) fn read(file: &Gguf, vocabulary: &Vocabulary) -> Result<Self, OpenError> {
        let source =
            file.text("tokenizer.chat_template")
                .ok_or_else(|| OpenError::ChatTemplate {
                    detail: "the file has none".into(),
                })?;
        let speaks_chatml = ["<|im_start|>", "<|im_end|>"]
            .iter()
            .all(|control| vocabulary.has_control(control));
        let (begin, end) = (vocabulary.begin_text(), vocabulary.end_text());
        match Self::new(source, begin, end) {
            Ok(template) => Ok(template),
            Err(error) if speaks_chatml => {
                tracing::warn!(%error, "the model's chat template fails, using ChatML");
                Self::new(CHATML, begin, end)
            }
            Err(error) => Err(error),
        }
        .map_err(|error| OpenError::ChatTemplate {
            detail: error.to_string(),
        })
    }

    fn new(source: &str, begin: &str, end: &str) -> Result<Self, Error> {
        let mut environment = Environment::new();
        // The settings with which the templates' authors render them.
        let mut syntax = SyntaxConfig::builder();
        environment.set_syntax(syntax.trim_blocks(true).lstrip_blocks(true).build()?);
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function(
            "raise_exception",
            |message: String| -> Result<Value, Error> {
                Err(Error::new(ErrorKind::InvalidOperation, message))
            },
        );
        environment.set_fuel(Some(FUEL));
        environment.add_template_owned(NAME, source.to_owned())?;
        let template = Self {
            environment,
            begin: begin.to_owned(),
            end: end.to_owned(),
        };
        template.render(&[Message::user("Hello")], str::to_owned)?;
        Ok(template)
    }

    /// The prompt that makes the model answer; `disarm` is applied to each content.
    pub(crate) fn render(
        &self,
        messages: &[Message],
        disarm: impl Fn(&str) -> String,
    ) -> Result<String, Error> {
        let messages: Vec<Value> = messages
            .iter()
            .map(|message| {
                context! {
                    role => message.role.as_str(),
                    content => disarm(&message.content.text()),
                }
            })
            .collect();
        self.environment.get_template(NAME)?.render(context! {
            messages => messages,
            add_generation_prompt => true,
            bos_token => self.begin.as_str(),
            eos_token => self.end.as_str(),
        })
    }
}

/// Whether a message says anything that a text model cannot read.
pub(crate) fn has_images(message: &Message) -> bool {
    match &message.content {
        Content::Text(_) => false,
        Content::Parts(parts) => !parts.iter().all(|part| matches!(part, Part::Text { .. })),
    }
}
