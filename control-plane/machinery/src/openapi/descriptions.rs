//! The sentences that describe types and fields: the k8s-openapi crate's, packed (see `data/README.md`).
//!
//! They are inflated for each document that is written and dropped after it, because the text is most of a megabyte and
//! needed rarely.

use std::collections::HashMap;
use std::io::Read;

static PACKED: &[u8] = include_bytes!("../../data/descriptions.txt.gz");

/// All sentences, by definition and field.
pub(super) struct Descriptions {
    text: String,
    /// Definition name to the place of its first line.
    definitions: HashMap<String, usize>,
}

impl Descriptions {
    pub(super) fn load() -> Descriptions {
        let mut text = String::new();
        flate2::read::GzDecoder::new(PACKED)
            .read_to_string(&mut text)
            .expect("the compiled-in descriptions inflate");
        let mut definitions = HashMap::new();
        let mut at = 0;
        for line in text.split_inclusive('\n') {
            if let Some((name, _)) = line
                .strip_prefix("T ")
                .and_then(|rest| rest.split_once(' '))
            {
                definitions.insert(name.to_owned(), at);
            }
            at += line.len();
        }
        Descriptions { text, definitions }
    }

    /// The sentences of a definition and its fields.
    pub(super) fn definition(&self, name: &str) -> DefinitionText {
        let mut found = DefinitionText::default();
        let Some(start) = self.definitions.get(name) else {
            return found;
        };
        for (index, line) in self.text[*start..].lines().enumerate() {
            let mut words = line.splitn(3, ' ');
            let (Some(tag), Some(name), Some(text)) = (words.next(), words.next(), words.next())
            else {
                break;
            };
            let text: String =
                serde_json::from_str(text).expect("a compiled-in description is a JSON string");
            match (index, tag) {
                (0, _) => found.own = Some(text).filter(|text| !text.is_empty()),
                (_, "F") => {
                    found.fields.insert(name.to_owned(), text);
                }
                _ => break,
            }
        }
        found
    }
}

/// One definition's sentences.
#[derive(Default)]
pub(super) struct DefinitionText {
    pub(super) own: Option<String>,
    pub(super) fields: HashMap<String, String>,
}

/// A number that changes with the sentences: the checksum in the packed data's trailer.
pub(super) fn fingerprint() -> u64 {
    PACKED
        .last_chunk::<8>()
        .map_or(0, |tail| u64::from_le_bytes(*tail))
}
