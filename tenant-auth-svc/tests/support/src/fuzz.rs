//! Fuzz inputs for parsers of foreign data: valid inputs, and valid inputs with small changes.
//!
//! Random bytes fail at the first of them. An input is therefore a valid one with a few edits, some of which
//! insert a word of the language. A failing input is reduced by leaving edits out.

use std::panic::RefUnwindSafe;

use bolero::TypeGenerator;

/// Number of inputs per target. A nightly run uses far more: see [`input_count`].
const DEFAULT_INPUTS: usize = 2_000;
/// Maximum length of an input.
const MAX_INPUT_BYTES: usize = 16 * 1024;

/// One edit. Positions count from the beginning and wrap around.
#[derive(Clone, Debug, TypeGenerator)]
enum Edit {
    Set { at: u16, byte: u8 },
    Flip { at: u16, bit: u8 },
    Insert { at: u16, byte: u8 },
    Word { at: u16, word: u8 },
    Remove { at: u16, len: u8 },
    Repeat { from: u16, len: u8, to: u16 },
    Cut { at: u16 },
    Append { seed: u8, from: u16 },
}

/// Selects a valid input and the edits to apply.
#[derive(Clone, Debug, TypeGenerator)]
struct Recipe {
    seed: u8,
    #[generator(bolero::generator::produce_with::<Vec<Edit>>().len(0_usize..9))]
    edits: Vec<Edit>,
}

/// Describes the language that a target parses.
#[derive(Clone, Copy, Debug)]
pub struct Language {
    /// Valid inputs, and inputs that were once parsed wrongly. At least one.
    pub seeds: &'static [&'static [u8]],
    /// The words of the language.
    pub words: &'static [&'static [u8]],
}

impl Language {
    /// Passes all seeds unchanged to a target, and then the number of edited inputs that [`input_count`]
    /// returns.
    ///
    /// # Panics
    /// Panics if the target does. Prints the smallest recipe that causes the panic, and the
    /// `BOLERO_RANDOM_SEED` that reproduces it first.
    pub fn check(self, target: impl Fn(&[u8]) + RefUnwindSafe) {
        for seed in self.seeds {
            target(seed);
        }
        bolero::check!()
            .with_type::<Recipe>()
            .with_iterations(input_count())
            .for_each(|recipe| target(&recipe.build(self)));
    }
}

/// Returns the number of inputs per target: `TENANT_AUTH_TEST_FUZZ_INPUTS`, or two thousand if that is not a
/// number.
#[must_use]
pub fn input_count() -> usize {
    let given = std::env::var("TENANT_AUTH_TEST_FUZZ_INPUTS").ok();
    given.and_then(|text| text.parse().ok()).unwrap_or(DEFAULT_INPUTS)
}

impl Recipe {
    fn build(&self, language: Language) -> Vec<u8> {
        let mut bytes = pick(language.seeds, self.seed).to_vec();
        for edit in &self.edits {
            edit.apply(&mut bytes, language);
        }
        bytes.truncate(MAX_INPUT_BYTES);
        bytes
    }
}

impl Edit {
    fn apply(&self, bytes: &mut Vec<u8>, language: Language) {
        let len = bytes.len();
        let position = |at: u16| usize::from(at) % (len + 1);
        let piece = |from: u16, count: u8| position(from)..(position(from) + usize::from(count)).min(len);
        match *self {
            Self::Set { at, byte } => bytes.iter_mut().skip(position(at)).take(1).for_each(|it| *it = byte),
            Self::Flip { at, bit } => {
                bytes.iter_mut().skip(position(at)).take(1).for_each(|it| *it ^= 1 << (bit % 8));
            }
            Self::Insert { at, byte } => bytes.insert(position(at), byte),
            Self::Word { at, word } => {
                let position = position(at);
                bytes.splice(position..position, pick(language.words, word).iter().copied());
            }
            Self::Remove { at, len } => drop(bytes.drain(piece(at, len))),
            Self::Repeat { from, len, to } => {
                let (read_replica, position) = (bytes[piece(from, len)].to_vec(), position(to));
                bytes.splice(position..position, read_replica);
            }
            Self::Cut { at } => bytes.truncate(position(at)),
            Self::Append { seed, from } => {
                let other = pick(language.seeds, seed);
                bytes.extend_from_slice(&other[usize::from(from) % (other.len() + 1)..]);
            }
        }
    }
}

fn pick(from: &'static [&'static [u8]], number: u8) -> &'static [u8] {
    from.get(usize::from(number) % from.len().max(1)).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[test]
    fn seeds_come_first_and_mutated_inputs_follow() {
        let seen = Mutex::new(Vec::new());
        let language = Language { seeds: &[b"one", b"two"], words: &[b"word"] };
        language.check(|input| seen.lock().unwrap().push(input.to_vec()));
        let seen = seen.into_inner().unwrap();
        assert_eq!(seen[..2], [b"one".to_vec(), b"two".to_vec()]);
        assert!(seen.len() >= input_count(), "{}", seen.len());
        assert!(seen.iter().any(|input| input.windows(4).any(|part| part == b"word")));
        assert!(seen.iter().all(|input| input.len() <= MAX_INPUT_BYTES));
    }
}
