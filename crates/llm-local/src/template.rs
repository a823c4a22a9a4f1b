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

#[cfg(test)]
mod tests {
    use super::*;

    /// In the style of the Llama 3 and Mistral families: methods of Python, a namespace,
    /// alternation enforced.
    const STRICT: &str = "{{- bos_token }}\n\
        {%- set ns = namespace(last='') %}\n\
        {%- for message in messages %}\n\
        {%- if message['role'] == ns.last %}\n\
            {{- raise_exception('roles must alternate') }}\n\
        {%- endif %}\n\
        {%- set ns.last = message['role'] %}\n\
        {{- '[' + message['role'].upper() + ']' + message['content'].strip() + eos_token }}\n\
        {%- endfor %}\n\
        {%- if add_generation_prompt and not tools is defined %}[ASSISTANT]{% endif %}";

    #[test]
    fn templates_render_as_python_renders_them() {
        let template = ChatTemplate::new(STRICT, "<s>", "</s>").unwrap();
        let messages = [
            Message::system("Be brief."),
            Message::user(" Why? "),
            Message::assistant("Because."),
            Message::user("So?"),
        ];
        assert_eq!(
            template.render(&messages, str::to_owned).unwrap(),
            "<s>[SYSTEM]Be brief.</s>[USER]Why?</s>[ASSISTANT]Because.</s>[USER]So?</s>[ASSISTANT]"
        );
        let twice = [Message::user("a"), Message::user("b")];
        let error = template.render(&twice, str::to_owned).unwrap_err();
        assert!(
            error.to_string().contains("roles must alternate"),
            "{error}"
        );
    }

    #[test]
    fn chatml_is_spelt_as_its_models_expect() {
        let template = ChatTemplate::new(CHATML, "", "").unwrap();
        assert_eq!(
            template
                .render(&[Message::user("Hi")], str::to_uppercase)
                .unwrap(),
            "<|im_start|>user\nHI<|im_end|>\n<|im_start|>assistant\n"
        );
    }

    #[test]
    fn endless_and_broken_templates_are_refused() {
        let endless =
            "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}";
        for source in [
            endless,
            "{% for",
            "{{ messages[0].content.no_such_method() }}",
        ] {
            assert!(ChatTemplate::new(source, "", "").is_err(), "{source}");
        }
    }
}
