//! `tributary datanet search`: Datanets by words of their cards, or the places of a phrase in one's text ([`phrase`]).

use clap::Args as ClapArgs;
use serde::Serialize;
use storage::datanet::Card;
use types::manifest::AssetKind;

use super::{Context, findings::cell, phrase};
use crate::{datanet::card_of, output::table};

/// Most words of a query.
const WORDS_MAX: usize = 16;

/// Find Datanets by their cards, or a phrase in the text of one.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Looks at name, tags, languages, licence and description, in this order of weight; every word must be in one of them. No word lists all.\nOne Datanet, file or folder and a phrase, quoted or after --phrase, search its text instead: byte for byte, from the start of a word.\n\nExamples:\n  tributary datanet search medical terms\n  tributary datanet search de CC0-1.0 --json | jq '.[].name'\n  tributary datanet search medical \"hearing impairment\"\n  tributary datanet search texts/ --phrase arthritis --most 3 --next 5\n\nNext: tributary datanet show NAME."
)]
pub(super) struct Args {
    /// Words; all must be found. Or a Datanet, file or folder, and a phrase in quotation marks.
    words: Vec<String>,
    /// Search the text of the Datanet, file or folder for this.
    #[arg(long, value_name = "TEXT")]
    phrase: Option<String>,
    /// Most places of a phrase that are shown, those of the earliest documents first.
    #[arg(long, default_value_t = 10)]
    most: u16,
    /// Bytes of its document that are shown on either side of a place.
    #[arg(long, value_name = "BYTES", default_value_t = 80)]
    around: u16,
    /// Also count what follows the phrase, and show so many of the likeliest next words.
    #[arg(long, value_name = "COUNT", default_value_t = 0)]
    next: u16,
}

#[derive(Debug, Serialize)]
struct Row {
    asset: u64,
    name: String,
    licence: String,
    languages: Vec<String>,
    tags: Vec<String>,
    private: bool,
    documents: u64,
    description: String,
    score: u32,
}

/// How well a card fits words, all of which must be in it; higher is better.
fn score(card: &Card, words: &[String]) -> Option<u32> {
    let lower = |text: &str| text.to_lowercase();
    let (name, licence, description) = (lower(card.name().as_str()), lower(card.licence().as_str()), lower(card.description()));
    let of = |word: &String| {
        let is_part = |text: &str| text.split(|c: char| !c.is_alphanumeric()).any(|part| part == word);
        let whole = |labels: &[String]| labels.iter().any(|label| lower(label) == *word || is_part(&lower(label)));
        let ranks = [
            (64, name == *word),
            (32, is_part(&name)),
            (16, whole(card.tags())),
            (8, whole(card.languages())),
            (8, licence.contains(word.as_str())),
            (4, is_part(&description)),
            (2, name.contains(word.as_str())),
            (1, description.contains(word.as_str())),
        ];
        let sum: u32 = ranks.iter().filter(|(_, is_in)| *is_in).map(|(rank, _)| rank).sum();
        (sum > 0).then_some(sum)
    };
    words.iter().map(of).try_fold(0_u32, |sum, score| Some(sum.saturating_add(score?)))
}

/// Runs the command.
pub(super) async fn run(context: &Context, args: Args) -> anyhow::Result<()> {
    let shown = phrase::Shown { most: args.most.into(), around: args.around.into(), next: args.next.into() };
    match (args.words.as_slice(), &args.phrase) {
        ([place], Some(phrase)) => return phrase::run(context, place, phrase, shown).await,
        (others, Some(_)) => anyhow::bail!("--phrase is looked for in one Datanet, file or folder, {} were named", others.len()),
        // A second word of the command line that is no one word was quoted; it is a phrase where the first leads to text.
        ([place, quoted], None) if phrase::is_quoted(quoted) && phrase::leads(context, place).await? => {
            return phrase::run(context, place, quoted, shown).await;
        }
        _ => {}
    }
    let words: Vec<String> = args.words.iter().flat_map(|word| word.split_whitespace()).map(str::to_lowercase).collect();
    anyhow::ensure!(words.len() <= WORDS_MAX, "{} words were given, at most {WORDS_MAX} are looked for: leave some out", words.len());
    let chain = context.chain_reader().await?;
    let state = chain.state().await?;
    let mut rows = Vec::new();
    for asset in state.assets().filter(|asset| asset.kind == AssetKind::Datanet) {
        let Ok(card) = card_of(asset) else { continue };
        let Some(score) = score(&card, &words) else { continue };
        rows.push(Row {
            asset: asset.id.0,
            name: card.name().to_string(),
            licence: card.licence().to_string(),
            languages: card.languages().to_vec(),
            tags: card.tags().to_vec(),
            private: card.is_private(),
            documents: state.live_contributions(asset.id).map(|accepted| u64::from(accepted.documents)).sum(),
            description: card.description().to_owned(),
            score,
        });
    }
    rows.sort_by_key(|row| (std::cmp::Reverse(row.score), std::cmp::Reverse(row.documents), row.asset));
    context.output.result(&rows, || describe(&rows))
}

fn describe(rows: &[Row]) -> String {
    if rows.is_empty() {
        return "no Datanet has all of these words on its card: tributary datanet list shows all".to_owned();
    }
    let line = |row: &Row| {
        let read = if row.private { "members" } else { "everybody" };
        let labels = row.languages.iter().chain(&row.tags).cloned().collect::<Vec<_>>().join(" ");
        vec![
            row.asset.to_string(),
            row.name.clone(),
            row.licence.clone(),
            row.documents.to_string(),
            read.to_owned(),
            cell(&labels),
            cell(&row.description),
        ]
    };
    table(&["number", "name", "licence", "documents", "read by", "labels", "description"], &rows.iter().map(line).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_weigh_more_than_tags_and_tags_more_than_descriptions_and_every_word_counts() {
        let card = |name: &str, tags: &[&str], description: &str| {
            let tags = tags.iter().map(|&tag| tag.to_owned()).collect();
            Card::new(name.parse().unwrap(), description.into(), "CC0-1.0".parse().unwrap(), vec!["de-CH".into()], tags).unwrap()
        };
        let of = |card: &Card, words: &[&str]| score(card, &words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>());
        let (named, tagged, told) = (card("tides", &[], ""), card("sea", &["tides"], ""), card("moon", &[], "It makes the tides."));
        assert!(of(&named, &["tides"]) > of(&tagged, &["tides"]) && of(&tagged, &["tides"]) > of(&told, &["tides"]));
        assert!(of(&told, &["tides"]).is_some() && of(&told, &["tides", "wind"]).is_none());
        assert!(of(&named, &["de"]).is_some() && of(&named, &["cc0-1.0"]).is_some() && of(&named, &["fr"]).is_none());
        assert_eq!(of(&named, &[]), Some(0));
    }
}
