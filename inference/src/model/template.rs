//! The chat template that a model file carries, rendered with a budget of steps.

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, context};

use crate::gguf::{Header, Value};
use crate::{Message, Role};

use super::tokenizer::Tokenizer;

/// Template instructions a rendering may take; a ChatML prompt of 1,000 messages takes about 40,000.
pub const FUEL: u64 = 1_000_000;
/// Messages of one conversation.
pub const MESSAGES_MAX: usize = 1_024;
/// Bytes of a rendered prompt; about 8 M is far above any context here.
pub const PROMPT_BYTES_MAX: usize = 8 << 20;

/// Why a conversation cannot become a prompt.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// The model file has no chat template.
    #[error("the model file has no tokenizer.chat_template: use an instruction-tuned file")]
    Absent,
    /// The template does not parse, asks for something unknown, or ran out of its budget.
    #[error("the chat template failed: {0}")]
    Failed(String),
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
    /// Compiles the template of a model file.
    ///
    /// # Errors
    /// [`TemplateError::Absent`] or [`TemplateError::Failed`].
    pub fn from_header(header: &Header) -> Result<Self, TemplateError> {
        let Some(Value::Text(source)) = header.metadata.get("tokenizer.chat_template") else {
            return Err(TemplateError::Absent);
        };
        let mut environment = Environment::new();
        environment.set_fuel(Some(FUEL));
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(failed)?;
        environment.set_syntax(syntax);
        environment.add_function("raise_exception", |message: String| -> Result<String, Error> {
            Err(Error::new(ErrorKind::InvalidOperation, message))
        });
        environment.add_template_owned("chat", source.clone()).map_err(failed)?;
        Ok(Self {
            environment,
            bos: named_token(header, "tokenizer.ggml.bos_token_id"),
            eos: named_token(header, "tokenizer.ggml.eos_token_id"),
        })
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
        let template = self.environment.get_template("chat").map_err(failed)?;
        let text = template
            .render(context! {
                messages => turns,
                add_generation_prompt => generation_prompt,
                bos_token => &self.bos,
                eos_token => &self.eos,
            })
            .map_err(failed)?;
        bounded("bytes of the prompt", text.len(), PROMPT_BYTES_MAX)?;
        Ok(text)
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
