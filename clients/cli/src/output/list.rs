//! Renders a long list page by page, without holding all of it in memory.

use std::marker::PhantomData;

use serde::Serialize;

use super::{json_list::JsonList, table::Columns};

/// An item of a list. Its fields are an element of the list in the JSON document.
pub(crate) trait Item: Serialize {
    /// The name of the list in the JSON document.
    const LIST: &'static str;

    /// The header of the columns.
    const HEADER: &'static [&'static str];

    /// Returns the columns as text.
    fn row(&self) -> Vec<String>;
}

/// Renders a list in parts; each part must be written before the next one is requested.
#[derive(Debug)]
pub(crate) struct ListRenderer<V> {
    form: Form,
    item_type: PhantomData<fn(V)>,
}

#[derive(Debug)]
enum Form {
    Columns { columns: Columns, has_started: bool },
    Json(JsonList),
}

/// The fields after the list.
#[derive(Serialize)]
struct End {
    more: bool,
}

impl<V: Item> ListRenderer<V> {
    pub(super) fn new(json: bool) -> Self {
        let form = match json {
            true => Form::Json(JsonList::new(V::LIST)),
            false => Form::Columns { columns: Columns::new(V::HEADER), has_started: false },
        };
        Self { form, item_type: PhantomData }
    }

    /// Renders a page; returns an empty text for an empty page.
    pub(crate) fn page(&mut self, items: &[V]) -> Result<String, serde_json::Error> {
        match &mut self.form {
            Form::Json(list) => list.items(items),
            Form::Columns { .. } if items.is_empty() => Ok(String::new()),
            Form::Columns { columns, has_started } => {
                *has_started = true;
                Ok(columns.lines(items.iter().map(Item::row)) + "\n")
            }
        }
    }

    /// Renders the end of the list; `more` says whether further items exist.
    pub(crate) fn end(self, more: bool) -> Result<String, serde_json::Error> {
        match self.form {
            Form::Json(list) => list.end(&End { more }),
            Form::Columns { has_started: true, .. } => Ok(String::new()),
            Form::Columns { mut columns, .. } => Ok(columns.lines([]) + "\n"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct TestItem {
        name: &'static str,
        parts: Vec<u8>,
    }

    impl Item for TestItem {
        const LIST: &'static str = "things";
        const HEADER: &'static [&'static str] = &["NAME", "PARTS"];

        fn row(&self) -> Vec<String> {
            vec![self.name.to_owned(), self.parts.len().to_string()]
        }
    }

    /// The same document, serialized at once.
    #[derive(Serialize)]
    struct WholeDocument<'a> {
        things: &'a [TestItem],
        more: bool,
    }

    fn render_streamed(json: bool, things: &[TestItem], page: usize, more: bool) -> String {
        let mut list = ListRenderer::new(json);
        let mut text: String = things.chunks(page).map(|page| list.page(page).unwrap()).collect();
        text += &list.page(&[]).unwrap();
        text + &list.end(more).unwrap()
    }

    #[test]
    fn streamed_json_equals_the_whole_document() {
        let names = ["a", "two\nlines", "\"\\", ""];
        for count in 0..=names.len() {
            let thing = |name: &&'static str| TestItem { name, parts: vec![1; name.len()] };
            let things: Vec<_> = names[..count].iter().map(thing).collect();
            for (page, more) in [(1, true), (3, false)] {
                let whole =
                    serde_json::to_string_pretty(&WholeDocument { things: &things, more }).unwrap() + "\n";
                assert_eq!(render_streamed(true, &things, page, more), whole);
            }
        }
    }

    #[test]
    fn columns_align_across_pages() {
        let thing = |name, parts| TestItem { name, parts: vec![0; parts] };
        let things = [thing("longest", 1), thing("b", 2), thing("longer than the longest", 3), thing("c", 4)];
        let expected = "NAME     PARTS\nlongest  1\nb        2\nlonger than the longest  3\nc                        4\n";
        assert_eq!(render_streamed(false, &things, 2, false), expected);
        assert_eq!(render_streamed(false, &[], 2, false), "NAME  PARTS\n");
    }
}
