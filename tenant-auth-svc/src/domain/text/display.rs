//! The characters allowed in texts that people enter and others read.
//!
//! A name is shown in tables, terminals and logs, and people rely on it. So it must consist of visible
//! characters: no control characters, no bidirectional formatting, no invisible characters, no line breaks,
//! no characters without an assigned meaning, and no spaces at its start or end. The rules are based on the
//! Unicode general category of each character.

use icu_properties::{
    CodePointMapData, CodePointSetData,
    props::{
        CanonicalCombiningClass, DefaultIgnorableCodePoint, EmojiModifier, ExtendedPictographic,
        GeneralCategory, GeneralCategoryGroup, JoiningType, VariationSelector,
    },
};

use super::InvalidText;

const NON_JOINER: char = '\u{200c}';
const JOINER: char = '\u{200d}';
/// A symbol without a visible glyph.
const BRAILLE_BLANK: char = '\u{2800}';

/// Checks that a text, which must not be empty, can be displayed.
///
/// # Errors
/// For the first character that cannot be displayed, or when no character is visible.
pub(crate) fn check(text: &str) -> Result<(), InvalidText> {
    let mut before = None;
    let mut is_any_visible = false;
    let mut chars = text.chars().enumerate().peekable();
    while let Some((index, c)) = chars.next() {
        let after = chars.peek().map(|(_, after)| *after);
        let rejected = |why| InvalidText::Character { code_point: c.into(), place: index + 1, why };
        if let Some(why) = rejection_reason(c, before, after) {
            return Err(rejected(why));
        }
        if c.is_whitespace() && (before.is_none() || after.is_none()) {
            return Err(rejected("a space at its start or end"));
        }
        is_any_visible |= is_visible(c);
        before = Some(c);
    }
    if is_any_visible { Ok(()) } else { Err(InvalidText::Unseen) }
}

/// Returns why a character is not allowed at its position; `None` if it is allowed.
fn rejection_reason(c: char, before: Option<char>, after: Option<char>) -> Option<&'static str> {
    match category(c) {
        GeneralCategory::Control => Some("a control character"),
        GeneralCategory::LineSeparator | GeneralCategory::ParagraphSeparator => Some("a line break"),
        GeneralCategory::PrivateUse => Some("a private-use character"),
        GeneralCategory::Unassigned | GeneralCategory::Surrogate => Some("an unassigned code point"),
        GeneralCategory::Format if is_needed_joiner(c, before, after) => None,
        GeneralCategory::Format => Some("an invisible character"),
        // Selects a variant of the preceding character: in Japanese names of places and people, and after
        // symbols.
        _ if is_selector(c) && before.is_some_and(|before| is_visible(before) && !is_selector(before)) => {
            None
        }
        _ if is_ignorable(c) => Some("an invisible character"),
        _ => None,
    }
}

/// Whether a joiner or non-joiner is at a position where writing needs it: next to a virama (Indic scripts),
/// between letters that would join (Arabic script), or within a pictogram.
fn is_needed_joiner(c: char, before: Option<char>, after: Option<char>) -> bool {
    let (Some(before), Some(after)) = (before, after) else { return false };
    if !matches!(c, JOINER | NON_JOINER) {
        return false;
    }
    let classes = CodePointMapData::<CanonicalCombiningClass>::new();
    let is_virama = |c| classes.get(c) == CanonicalCombiningClass::Virama;
    let types = CodePointMapData::<JoiningType>::new();
    let is_joined = |c| {
        let kind = types.get(c);
        [JoiningType::DualJoining, JoiningType::LeftJoining, JoiningType::RightJoining].contains(&kind)
    };
    let is_pictogram = |c| CodePointSetData::new::<ExtendedPictographic>().contains(c);
    let ends_pictogram = is_pictogram(before)
        || is_selector(before)
        || CodePointSetData::new::<EmojiModifier>().contains(before);
    match c {
        _ if is_virama(before) && is_letter(after) || is_virama(after) && is_letter(before) => true,
        NON_JOINER => is_joined(before) && is_joined(after),
        _ => ends_pictogram && is_pictogram(after),
    }
}

fn category(c: char) -> GeneralCategory {
    CodePointMapData::<GeneralCategory>::new().get(c)
}

fn is_letter(c: char) -> bool {
    GeneralCategoryGroup::Letter.contains(category(c))
}

fn is_selector(c: char) -> bool {
    CodePointSetData::new::<VariationSelector>().contains(c)
}

fn is_ignorable(c: char) -> bool {
    CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c)
}

/// Whether a character has a visible glyph of its own.
fn is_visible(c: char) -> bool {
    let visible_groups = [
        GeneralCategoryGroup::Letter,
        GeneralCategoryGroup::Number,
        GeneralCategoryGroup::Punctuation,
        GeneralCategoryGroup::Symbol,
    ];
    visible_groups.iter().any(|group| group.contains(category(c))) && !is_ignorable(c) && c != BRAILLE_BLANK
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_all_scripts_are_accepted() {
        for name in [
            "Acme",
            "Müller & Söhne GmbH",
            "O'Neil, Ltd. (EU) #2",
            "株式会社\u{3000}山田",
            "葛\u{e0100}城市",
            "Việt Nam Co\u{302}ng ty",
            // Persian: "we want", and a plural after a letter that does not join.
            "می\u{200c}خواهیم",
            "کار\u{200c}ها",
            // Hindi and Bengali conjuncts, Malayalam and Sinhala.
            "क्\u{200d}ष",
            "র\u{200d}্যাংগস",
            "ശ്രീ",
            "ශ්\u{200d}රී ලංකා",
            "حسن",
            "בע\u{5f4}מ",
            "🏳\u{fe0f}\u{200d}🌈 Rainbow",
            "👩🏽\u{200d}💻",
            "i\u{a0}b",
        ] {
            assert_eq!(check(name), Ok(()), "{name:?}");
        }
    }

    #[test]
    fn invisible_character_is_rejected_by_code_point() {
        for (text, code_point, place) in [
            ("a\u{202e}b", 0x202e, 2),
            ("\u{2066}Acme\u{2069}", 0x2066, 1),
            ("Ac\u{200b}me", 0x200b, 3),
            ("Acme\u{feff}", 0xfeff, 5),
            ("a\u{ad}b", 0xad, 2),
            ("two\nlines", 0xa, 4),
            ("two\u{2028}lines", 0x2028, 4),
            ("two\u{2029}lines", 0x2029, 4),
            ("pro\u{1b}[31m", 0x1b, 4),
            ("\u{85}x", 0x85, 1),
            ("a\u{e000}", 0xe000, 2),
            ("a\u{378}", 0x378, 2),
            ("a\u{fffe}", 0xfffe, 2),
            ("a\u{3164}b", 0x3164, 2),
            ("a\u{34f}b", 0x34f, 2),
            ("a\u{e0041}b", 0xe0041, 2),
            // Joiners at positions where nothing joins.
            ("ad\u{200c}min", 0x200c, 3),
            ("ad\u{200d}min", 0x200d, 3),
            ("\u{200d}", 0x200d, 1),
            ("می\u{200c}", 0x200c, 3),
            ("\u{200c}می", 0x200c, 1),
            ("می\u{200c}\u{200c}خ", 0x200c, 3),
            // Selectors without a character to select.
            ("\u{fe0f}", 0xfe0f, 1),
            ("a\u{fe0f}\u{fe0f}", 0xfe0f, 3),
            (" Acme", 0x20, 1),
            ("Acme ", 0x20, 5),
            ("Acme\u{a0}", 0xa0, 5),
            ("\u{3000}", 0x3000, 1),
            ("   ", 0x20, 1),
        ] {
            let rejected = check(text).unwrap_err();
            let InvalidText::Character { code_point: found, place: at, .. } = rejected else {
                panic!("{text:?}: {rejected:?}")
            };
            assert_eq!((found, at), (code_point, place), "{text:?}");
        }
        for unseen in ["\u{301}", "\u{2800}", "\u{2800}\u{2800}"] {
            assert_eq!(check(unseen), Err(InvalidText::Unseen), "{unseen:?}");
        }
    }

    #[test]
    fn accepted_text_has_only_accepted_characters() {
        for c in '\0'..=char::MAX {
            let is_refused = check(&format!("a{c}a")).is_err();
            let group = category(c);
            let is_bad = matches!(
                group,
                GeneralCategory::Control
                    | GeneralCategory::Format
                    | GeneralCategory::LineSeparator
                    | GeneralCategory::ParagraphSeparator
                    | GeneralCategory::PrivateUse
                    | GeneralCategory::Unassigned
            );
            assert!(is_refused || !is_bad, "{c:?}");
        }
    }
}
