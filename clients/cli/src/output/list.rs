//! Renders a long list page by page, without holding all of it in memory.
//!
//! With JSON, the output is one document with the same layout as any other. An interrupted list is left open,
//! so that a reader cannot take the part for the whole.

use std::marker::PhantomData;

use serde::Serialize;

use super::table::Columns;

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
    /// `None` for JSON.
    columns: Option<Columns>,
    has_started: bool,
    item_type: PhantomData<fn(V)>,
}

impl<V: Item> ListRenderer<V> {
    pub(super) fn new(json: bool) -> Self {
        let columns = (!json).then(|| Columns::new(V::HEADER));
        Self { columns, has_started: false, item_type: PhantomData }
    }

    /// Renders a page; returns an empty text for an empty page.
    pub(crate) fn page(&mut self, items: &[V]) -> Result<String, serde_json::Error> {
        if items.is_empty() {
            return Ok(String::new());
        }
        if let Some(columns) = &mut self.columns {
            self.has_started = true;
            return Ok(columns.lines(items.iter().map(Item::row)) + "\n");
        }
        let mut text = String::new();
        for item in items {
            if self.has_started {
                text.push(',');
            } else {
                text += &self.opening();
                self.has_started = true;
            }
            // JSON strings contain no line breaks: all line breaks belong to the layout.
            text += "\n    ";
            text += &serde_json::to_string_pretty(item)?.replace('\n', "\n    ");
        }
        Ok(text)
    }

    /// Renders the end of the list; `more` says whether further items exist.
    pub(crate) fn end(mut self, more: bool) -> String {
        match &mut self.columns {
            Some(_) if self.has_started => String::new(),
            Some(columns) => columns.lines([]) + "\n",
            None => {
                let list = if self.has_started { "\n  ".to_owned() } else { self.opening() };
                format!("{list}],\n  \"more\": {more}\n}}\n")
            }
        }
    }

    fn opening(&self) -> String {
        format!("{{\n  \"{}\": [", V::LIST)
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
        text + &list.end(more)
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
