//! A Datanet's card: what it is, under which licence, in which languages. Parsed once; a card that exists is a valid one.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use spdx::{
    Expression, ParseMode,
    error::{ParseError, Reason},
};

use super::policy::GatePolicy;

/// Longest name.
pub const NAME_LEN_MAX: usize = 64;
/// Longest description, in bytes.
pub const DESCRIPTION_BYTES_MAX: usize = 16 << 10;
/// Longest licence expression, in bytes.
pub const LICENCE_BYTES_MAX: usize = 256;
/// Most languages, and most tags.
pub const LABELS_MAX: usize = 64;

/// Why something is no card.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CardError {
    /// Not a name.
    #[error(
        "{got:?} is no Datanet name: use 1 to {NAME_LEN_MAX} lower-case letters, digits and hyphens, beginning and ending with a letter or digit"
    )]
    Name {
        /// What was given, cut short.
        got: String,
    },
    /// Not a licence expression.
    #[error("{got:?} is no SPDX licence expression ({problem}): write for example Apache-2.0, CC-BY-4.0 OR MIT, or LicenseRef-Name")]
    Licence {
        /// What was given, cut short.
        got: String,
        /// Where it stops being one.
        problem: String,
    },
    /// Not a language tag.
    #[error("{got:?} is no language tag: write for example en, de-CH or zh-Hant")]
    Language {
        /// What was given, cut short.
        got: String,
    },
    /// Not a tag.
    #[error("{got:?} is no tag: use 1 to {NAME_LEN_MAX} lower-case letters, digits and hyphens")]
    Tag {
        /// What was given, cut short.
        got: String,
    },
    /// Too much of something.
    #[error("{field} holds {got}, at most {max} are allowed")]
    TooMany {
        /// What there is too much of.
        field: &'static str,
        /// How much.
        got: usize,
        /// How much may be.
        max: usize,
    },
}

fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

fn is_slug(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=NAME_LEN_MAX).contains(&text.len()) && text.bytes().all(is_inner) && !text.starts_with('-') && !text.ends_with('-')
}

/// A Datanet's name: safe as a file name and in a URL, because nothing else parses.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DatanetName(String);

impl DatanetName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DatanetName {
    type Err = CardError;

    fn from_str(text: &str) -> Result<Self, CardError> {
        if is_slug(text) { Ok(Self(text.to_owned())) } else { Err(CardError::Name { got: shown(text) }) }
    }
}

impl TryFrom<String> for DatanetName {
    type Error = CardError;

    fn try_from(text: String) -> Result<Self, CardError> {
        text.parse()
    }
}

impl From<DatanetName> for String {
    fn from(name: DatanetName) -> Self {
        name.0
    }
}

impl fmt::Display for DatanetName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An SPDX licence expression as it was written, parsed by `spdx` (SPDX 2.3, annex D). Its bytes stay: the registry keeps their hash.
///
/// What a person writes ([`FromStr`]) names licences of SPDX's list, deprecated ones among them, or `LicenseRef-`s; operators stand in capitals or small
/// letters, blanks are spaces. What is on record (a card, an offer to a gate) may also name what is not on this build's list, since the list grows: such
/// an identifier is taken for the `LicenseRef-` of that name, and fits only itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Licence(String);

/// What a person may write.
const WRITTEN: ParseMode = ParseMode { allow_deprecated: true, allow_postfix_plus_on_gpl: true, ..ParseMode::STRICT };
/// What may stand on record.
const ON_RECORD: ParseMode = ParseMode { allow_unknown: true, ..WRITTEN };

impl Licence {
    /// The expression.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The expression as `spdx` has parsed it.
    pub(super) fn expression(&self) -> Expression {
        Expression::parse_mode(&self.0, ON_RECORD).expect("what did not parse is no licence")
    }

    fn parsed(text: String, mode: ParseMode) -> Result<Self, CardError> {
        let error = |problem| CardError::Licence { got: shown(&text), problem };
        if text.len() > LICENCE_BYTES_MAX {
            return Err(error(format!("{} bytes, at most {LICENCE_BYTES_MAX} are allowed", text.len())));
        }
        match Expression::parse_mode(&text, mode) {
            Ok(_) => Ok(Self(text)),
            Err(ParseError { span, reason, .. }) => {
                let place = text.get(span).filter(|place| !place.is_empty()).map_or_else(String::new, |place| format!("{place:?}: "));
                let what = if reason == Reason::UnknownTerm { "it is not on SPDX's list".to_owned() } else { reason.to_string() };
                Err(error(place + &what))
            }
        }
    }
}

impl FromStr for Licence {
    type Err = CardError;

    fn from_str(text: &str) -> Result<Self, CardError> {
        if let Some(blank) = text.chars().find(|letter| letter.is_whitespace() && *letter != ' ') {
            return Err(CardError::Licence { got: shown(text), problem: format!("{blank:?} is no space") });
        }
        Self::parsed(text.to_owned(), WRITTEN)
    }
}

impl TryFrom<String> for Licence {
    type Error = CardError;

    fn try_from(text: String) -> Result<Self, CardError> {
        Self::parsed(text, ON_RECORD)
    }
}

impl From<Licence> for String {
    fn from(licence: Licence) -> Self {
        licence.0
    }
}

impl fmt::Display for Licence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a Datanet is. JSON; unknown keys are refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawCard", into = "RawCard")]
pub struct Card {
    name: DatanetName,
    description: String,
    licence: Licence,
    languages: Vec<String>,
    tags: Vec<String>,
    policy: GatePolicy,
    is_private: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCard {
    name: DatanetName,
    description: String,
    licence: Licence,
    #[serde(default)]
    languages: Vec<String>,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default, skip_serializing_if = "GatePolicy::is_default")]
    policy: GatePolicy,
    #[serde(default, skip_serializing_if = "is_open")]
    private: bool,
}

const fn is_open(is_private: &bool) -> bool {
    !*is_private
}

impl Card {
    /// A card of checked parts: `languages` as BCP 47 tags, `tags` as lower-case words.
    ///
    /// # Errors
    /// [`CardError`] naming the part.
    pub fn new(
        name: DatanetName,
        description: String,
        licence: Licence,
        languages: Vec<String>,
        tags: Vec<String>,
    ) -> Result<Self, CardError> {
        let sizes = [
            ("description bytes", description.len(), DESCRIPTION_BYTES_MAX),
            ("languages", languages.len(), LABELS_MAX),
            ("tags", tags.len(), LABELS_MAX),
        ];
        if let Some((field, got, max)) = sizes.into_iter().find(|(_, got, max)| got > max) {
            return Err(CardError::TooMany { field, got, max });
        }
        if let Some(got) = languages.iter().find(|language| !is_language(language)) {
            return Err(CardError::Language { got: shown(got) });
        }
        if let Some(got) = tags.iter().find(|tag| !is_slug(tag)) {
            return Err(CardError::Tag { got: shown(got) });
        }
        Ok(Self { name, description, licence, languages, tags, policy: GatePolicy::default(), is_private: false })
    }

    /// The card with another policy, which must be within its bounds.
    ///
    /// # Errors
    /// [`CardError::TooMany`].
    pub fn with_policy(self, policy: GatePolicy) -> Result<Self, CardError> {
        policy.check()?;
        Ok(Self { policy, ..self })
    }

    /// The card of a Datanet whose text only members may read, or of an open one.
    pub fn with_privacy(self, is_private: bool) -> Self {
        Self { is_private, ..self }
    }

    /// Whether only members may read its text.
    pub const fn is_private(&self) -> bool {
        self.is_private
    }

    /// What the gate does with what it finds.
    pub const fn policy(&self) -> &GatePolicy {
        &self.policy
    }

    /// The name.
    pub const fn name(&self) -> &DatanetName {
        &self.name
    }

    /// What it is, in words.
    pub fn description(&self) -> &str {
        &self.description
    }

    /// The licence every contribution gives.
    pub const fn licence(&self) -> &Licence {
        &self.licence
    }

    /// Languages of the documents, as BCP 47 tags.
    pub fn languages(&self) -> &[String] {
        &self.languages
    }

    /// What it may be found by.
    pub fn tags(&self) -> &[String] {
        &self.tags
    }
}

fn is_language(tag: &str) -> bool {
    let mut parts = tag.split('-');
    let primary = parts.next().is_some_and(|part| (2..=3).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_lowercase()));
    primary && tag.len() <= 35 && parts.all(|part| (1..=8).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

impl TryFrom<RawCard> for Card {
    type Error = CardError;

    fn try_from(raw: RawCard) -> Result<Self, CardError> {
        let card = Self::new(raw.name, raw.description, raw.licence, raw.languages, raw.tags)?;
        Ok(card.with_policy(raw.policy)?.with_privacy(raw.private))
    }
}

impl From<Card> for RawCard {
    fn from(Card { name, description, licence, languages, tags, policy, is_private: private }: Card) -> Self {
        Self { name, description, licence, languages, tags, policy, private }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_that_could_leave_its_folder_does_not_parse() {
        let long = "a".repeat(65);
        for name in ["", "..", "../medical", "a/b", "a\\b", "a b", "Medical", "-a", "a-", "a.b", "né", "a\0", &long] {
            assert!(matches!(name.parse::<DatanetName>(), Err(CardError::Name { .. })), "{name:?}");
        }
        for name in ["a", "medical", "icd-10-cm", &long[1..]] {
            assert_eq!(name.parse::<DatanetName>().unwrap().as_str(), name);
        }
        assert!("../x".parse::<DatanetName>().unwrap_err().to_string().contains("lower-case letters, digits and hyphens"));
    }

    #[test]
    fn a_licence_is_what_spdx_parses_and_keeps_its_bytes() {
        for good in [
            "MIT",
            "Apache-2.0",
            "Apache-2.0+",
            "GPL-2.0+",
            "GPL-2.0",
            "MIT OR (Apache-2.0 AND CC-BY-4.0)",
            "MIT or  Apache-2.0",
            "GPL-2.0-only WITH Classpath-exception-2.0",
            "LicenseRef-HPO",
            "DocumentRef-here:LicenseRef-HPO",
        ] {
            assert_eq!(good.parse::<Licence>().map(String::from).as_deref(), Ok(good));
            assert_eq!(Licence::try_from(good.to_owned()).map(String::from).as_deref(), Ok(good));
        }
        // (expression, what is said of it, whether it may stand on record)
        for (bad, words, is_on_record) in [
            ("", "empty expression", false),
            ("MIT OR", "expected one of", false),
            ("OR MIT", "\"OR\": expected one of", false),
            ("MIT Apache-2.0", "\"Apache-2.0\": expected one of", false),
            ("(MIT", "unclosed parens", false),
            ("MIT)", "unopened parens", false),
            ("My own licence!", "not on SPDX's list", false),
            ("MIT WITH", "<addition>", false),
            ("(MIT) WITH Classpath-exception-2.0", "\"WITH\"", false),
            ("MIT / ISC", "invalid character", false),
            (&"M".repeat(300), "300 bytes, at most 256", false),
            ("Free", "\"Free\": it is not on SPDX's list", true),
            ("mit", "not on SPDX's list", true),
            ("MIT AND BSD", "\"BSD\": it is not on SPDX's list", true),
            ("MIT WITH some-exception", "not on SPDX's list", true),
            ("MIT\nOR ISC", "'\\n' is no space", true),
        ] {
            let error = bad.parse::<Licence>().unwrap_err().to_string();
            assert!(error.contains(words), "{bad}: {error}");
            assert_eq!(Licence::try_from(bad.to_owned()).is_ok(), is_on_record, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic_and_what_parses_can_be_weighed(
            parts in proptest::collection::vec(
                prop::sample::select(vec!["MIT", "GPL-2.0", "x", "+", "(", ")", " ", "AND", " or ", "WITH", "LicenseRef-", "DocumentRef-a:", ":", "\u{e9}", "\n"]),
                0..24,
            ),
        ) {
            let text = parts.concat();
            let written = text.parse::<Licence>();
            if let Ok(licence) = Licence::try_from(text.clone()) {
                licence.expression().evaluate(|_| true);
            } else {
                prop_assert!(written.is_err(), "{text:?} may be written and not be on record");
            }
        }
    }

    #[test]
    fn a_card_reads_from_json_and_refuses_what_it_does_not_know() {
        let text = r#"{"name":"medical","description":"Terms.","licence":"CC-BY-4.0","languages":["en","zh-Hant"],"tags":["health"]}"#;
        let card: Card = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&card).unwrap(), text);
        for (from, to, word) in [
            ("medical", "../medical", "no Datanet name"),
            ("CC-BY-4.0", "My own terms", "no SPDX licence expression"),
            ("\"en\"", "\"English!\"", "no language tag"),
            ("[\"health\"]", "[\"Health Care\"]", "no tag"),
            ("\"tags\"", "\"labels\"", "unknown field"),
        ] {
            let error = serde_json::from_str::<Card>(&text.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
        // A card whose licence is on a longer list than this build's is read, and keeps its bytes.
        let newer = text.replace("CC-BY-4.0", "CC-BY-9.0");
        assert_eq!(serde_json::to_string(&serde_json::from_str::<Card>(&newer).unwrap()).unwrap(), newer);
    }

    #[test]
    fn a_policy_is_read_and_an_old_card_has_the_default() {
        let old = r#"{"name":"a","description":"","licence":"MIT","languages":[],"tags":[]}"#;
        let card: Card = serde_json::from_str(old).unwrap();
        assert_eq!(*card.policy(), GatePolicy::default());
        let policy = r#","policy":{"near_copies":"block","personal_data":"redact","contributor_rows_max":10}}"#;
        let new = format!("{}{policy}", old.strip_suffix('}').unwrap());
        let card: Card = serde_json::from_str(&new).unwrap();
        assert_eq!((card.policy().contributor_rows_max, card.policy().contributor_bytes_max), (Some(10), None));
        assert_eq!(serde_json::to_string(&card).unwrap(), new);
        assert!(serde_json::from_str::<Card>(&new.replace("near_copies", "copies")).unwrap_err().to_string().contains("unknown field"));
        assert!(serde_json::from_str::<Card>(&new.replace("block", "forbid")).is_err());
    }

    #[test]
    fn uses_contributors_residency_and_privacy_are_read_and_bounded() {
        let text = r#"{"name":"a","description":"","licence":"MIT","languages":[],"tags":[],"policy":{"sample_per_mille":50,"contributors":"listed","may_train":false,"share_alike":true,"residency":["CH","DE"]},"private":true}"#;
        let card: Card = serde_json::from_str(text).unwrap();
        let policy = card.policy();
        assert_eq!((policy.may_train, policy.may_serve, policy.share_alike, policy.residency.len()), (false, true, true, 2));
        assert!(card.is_private() && policy.contributors == crate::datanet::Contributors::Listed);
        assert_eq!(serde_json::to_string(&card).unwrap(), text);
        for (from, to, word) in
            [("50", "1001", "at most 1000"), ("\"CH\"", "\"Swiss\"", "no region"), ("listed", "friends", "unknown variant")]
        {
            let error = serde_json::from_str::<Card>(&text.replace(from, to)).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
        let rows = GatePolicy { residency: vec!["DE".parse().unwrap(); LABELS_MAX + 1], ..GatePolicy::default() };
        assert!(rows.check().is_err());
    }

    #[test]
    fn too_many_labels_are_counted() {
        let tags = vec!["a".to_owned(); LABELS_MAX + 1];
        let card = Card::new("a".parse().unwrap(), String::new(), "MIT".parse().unwrap(), vec![], tags);
        assert_eq!(card.unwrap_err(), CardError::TooMany { field: "tags", got: LABELS_MAX + 1, max: LABELS_MAX });
    }
}
