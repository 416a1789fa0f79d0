//! The chat template that a model file carries, rendered with a budget of steps and of bytes.
//!
//! [`growth`] refuses at once a template whose values could outgrow its input; steps are bounded by the number of messages, and what is
//! written by [`PROMPT_BYTES_MAX`]. Rendering so holds at most a few hundred times the bytes of a conversation, and usually six times.
//!
//! A template sees `messages`, `add_generation_prompt`, `bos_token` and `eos_token`. It sees no clock: `strftime_now` is not defined, so that
//! a node that checks an answer next week renders the same prompt; templates that ask for today's date have a fixed one for that case.

pub mod growth;
mod methods;

use std::io;

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, context};

use crate::gguf::{Header, Value};
use crate::{Message, Role};

use super::tokenizer::Tokenizer;

/// Template instructions that a rendering may take, whatever it renders: the long templates with tools have a thousand.
pub const FUEL: u64 = 4_000;
/// Template instructions more for each message; ChatML takes about 40.
pub const FUEL_PER_MESSAGE: u64 = 400;
/// Messages of one conversation.
pub const MESSAGES_MAX: usize = 1_024;
/// Bytes of a conversation and of a rendered prompt; a million is far above any context here, and four times what attribution compares.
pub const PROMPT_BYTES_MAX: usize = 1 << 20;

/// Why a conversation cannot become a prompt.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// The model file has no chat template.
    #[error(
        "the model's files have no chat template (tokenizer.chat_template, chat_template.jinja or chat_template in tokenizer_config.json): use an instruction-tuned model"
    )]
    Absent,
    /// The template does not parse, asks for something unknown, or ran out of its budget.
    #[error("the chat template failed: {0}")]
    Failed(String),
    /// What the template makes could outgrow the conversation.
    #[error("the chat template is refused: {0}")]
    Growth(#[from] growth::GrowthError),
    /// A message holds a token that separates turns.
    #[error("message {index} holds the control token {token}: remove it, it would forge a turn of the chat")]
    ControlToken {
        /// Position of the message, from 0.
        index: usize,
        /// The token found.
        token: String,
    },
    /// Too many messages, or too long a prompt.
    #[error("{what}: {got}, at most {max} accepted")]
    TooLong {
        /// What is too long.
        what: &'static str,
        /// The size found.
        got: usize,
        /// The most accepted.
        max: usize,
    },
    /// The rendered text has no tokens.
    #[error(transparent)]
    Tokenizer(#[from] super::tokenizer::TokenizerError),
}

/// A compiled chat template.
pub struct ChatTemplate {
    environment: Environment<'static>,
    bos: String,
    eos: String,
}

impl std::fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChatTemplate").field("bos", &self.bos).field("eos", &self.eos).finish_non_exhaustive()
    }
}

impl ChatTemplate {
    /// Compiles the template of a GGUF file.
    ///
    /// # Errors
    /// [`TemplateError::Absent`], [`TemplateError::Growth`] or [`TemplateError::Failed`].
    pub fn from_header(header: &Header) -> Result<Self, TemplateError> {
        let source = match header.metadata.get("tokenizer.chat_template") {
            Some(Value::Text(source)) => Some(source.as_str()),
            _ => None,
        };
        let token = |key| named_token(header, key);
        Self::new(source, token("tokenizer.ggml.bos_token_id"), token("tokenizer.ggml.eos_token_id"))
    }

    /// Compiles a template, which may print the texts of the first and the last token.
    ///
    /// # Errors
    /// As [`ChatTemplate::from_header`].
    pub fn new(source: Option<&str>, bos: String, eos: String) -> Result<Self, TemplateError> {
        let source = source.ok_or(TemplateError::Absent)?;
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(failed)?;
        growth::check(source, &syntax)?;
        environment.set_syntax(syntax);
        growth::FUNCTIONS_REFUSED.iter().for_each(|function| environment.remove_global(function));
        environment.add_function("raise_exception", |message: String| -> Result<String, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message))
        });
        methods::add(&mut environment);
        environment.add_template_owned("chat", source.to_owned()).map_err(failed)?;
        Ok(Self { environment, bos, eos })
    }

    /// Renders a conversation. With `generation_prompt` the text ends where the model is to answer.
    ///
    /// # Errors
    /// [`TemplateError::ControlToken`], [`TemplateError::TooLong`] or [`TemplateError::Failed`].
    pub fn render(&self, tokenizer: &Tokenizer, messages: &[Message], generation_prompt: bool) -> Result<String, TemplateError> {
        bounded("number of messages", messages.len(), MESSAGES_MAX)?;
        bounded("bytes of the messages", messages.iter().map(|m| m.content.len()).sum(), PROMPT_BYTES_MAX)?;
        for (index, message) in messages.iter().enumerate() {
            if let Some(token) = tokenizer.control_in(&message.content) {
                return Err(TemplateError::ControlToken { index, token: token.to_owned() });
            }
        }
        let turns: Vec<_> =
            messages.iter().map(|message| context! { role => role_name(message.role), content => &message.content }).collect();
        let mut environment = self.environment.clone();
        environment.set_fuel(Some(FUEL + FUEL_PER_MESSAGE * u64::try_from(messages.len()).unwrap_or(u64::MAX).min(1 << 20)));
        let mut prompt = Bounded::default();
        let rendered = environment.get_template("chat").and_then(|template| {
            let values = context! {
                messages => turns,
                add_generation_prompt => generation_prompt,
                bos_token => &self.bos,
                eos_token => &self.eos,
            };
            template.render_captured_to(values, &mut prompt).map(drop)
        });
        bounded("bytes of the prompt", prompt.wanted, PROMPT_BYTES_MAX)?;
        rendered.map_err(failed)?;
        String::from_utf8(prompt.bytes).map_err(|error| TemplateError::Failed(error.to_string()))
    }
}

/// Takes bytes up to [`PROMPT_BYTES_MAX`].
#[derive(Debug, Default)]
struct Bounded {
    bytes: Vec<u8>,
    /// Bytes there would be with those refused.
    wanted: usize,
}

impl io::Write for Bounded {
    fn write(&mut self, more: &[u8]) -> io::Result<usize> {
        self.wanted = self.bytes.len().saturating_add(more.len());
        if self.wanted > PROMPT_BYTES_MAX {
            return Err(io::Error::other("the prompt is too long"));
        }
        self.bytes.extend_from_slice(more);
        Ok(more.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn bounded(what: &'static str, got: usize, max: usize) -> Result<(), TemplateError> {
    if got > max { Err(TemplateError::TooLong { what, got, max }) } else { Ok(()) }
}

fn role_name(role: Role) -> &'static str {
    match role {
        Role::System => "system",
        Role::User => "user",
        Role::Assistant => "assistant",
    }
}

/// The text of a token that metadata names by id; templates may print it. Empty where the file names none.
fn named_token(header: &Header, key: &str) -> String {
    let token = header
        .unsigned(key)
        .ok()
        .and_then(|id| usize::try_from(id).ok())
        .and_then(|id| header.texts("tokenizer.ggml.tokens").ok()?.get(id).cloned());
    token.unwrap_or_default()
}

fn failed(error: Error) -> TemplateError {
    TemplateError::Failed(format!("{error:#}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A conversation of `count` messages of `len` bytes, rendered by the test model with another template.
    fn render(source: &str, count: usize, len: usize) -> Result<String, TemplateError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tiny.gguf");
        crate::tiny::write_model(&path, 7).unwrap();
        let mut header = crate::gguf::GgufFile::open(&path).unwrap().header().clone();
        header.metadata.insert("tokenizer.chat_template".into(), Value::Text(source.into()));
        let tokenizer = Tokenizer::from_header(&header).unwrap();
        let messages = vec![Message { role: Role::User, content: "x".repeat(len) }; count];
        ChatTemplate::from_header(&header)?.render(&tokenizer, &messages, true)
    }

    const CHATML: &str = "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' + '\n' }}{% endfor %}";

    #[test]
    fn the_longest_conversation_is_rendered_within_its_budget() {
        let text = render(CHATML, MESSAGES_MAX, 900).unwrap();
        assert_eq!(text.matches("<|im_start|>user\nxxx").count(), MESSAGES_MAX);
    }

    #[test]
    fn a_template_that_writes_without_end_is_stopped() {
        let squared = "{% for m in messages %}{% for n in messages %}{{ n.content }}{% endfor %}{% endfor %}";
        assert_eq!(render(squared, 4, 5).unwrap(), "x".repeat(80));
        let Err(TemplateError::TooLong { got, max: PROMPT_BYTES_MAX, .. }) = render(squared, 40, 10_000) else {
            panic!("16 MB were written")
        };
        assert!(got <= PROMPT_BYTES_MAX + 10_000, "{got} bytes were held");
        let idle = "{% for a in messages %}{% for b in messages %}{% for c in messages %}{% endfor %}{% endfor %}{% endfor %}";
        assert!(render(idle, 200, 1).unwrap_err().to_string().contains("fuel"));
    }

    #[test]
    fn a_template_that_could_outgrow_its_input_does_not_even_load() {
        let doubled = format!("{{% set s = 'x' %}}{}{{{{ s }}}}", "{% set s = s ~ s %}".repeat(40));
        for source in
            [&doubled, "{{ 'x' | indent(1000000000000) }}", "{{ 'x' * 1000000000000 }}", "{% for i in range(99999) %}{% endfor %}"]
        {
            assert!(matches!(render(source, 1, 1), Err(TemplateError::Growth(_))), "{source}");
        }
        assert!(matches!(render("{% set f = range %}{{ f(9) }}", 1, 1), Err(TemplateError::Failed(_))), "the function is not there");
    }
}
