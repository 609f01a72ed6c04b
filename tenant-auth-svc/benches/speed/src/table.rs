//! Prints Markdown tables.

/// Prints a table: a header, and rows with the same number of cells.
pub fn print(title: &str, head: &[&str], lines: &[Vec<String>]) {
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count());
        cells.chain(head.get(column).map(|name| name.chars().count())).max().unwrap_or_default()
    };
    let row = |cells: &mut dyn Iterator<Item = &str>| {
        let cells: Vec<_> =
            cells.enumerate().map(|(i, cell)| format!("{cell:<width$}", width = width(i))).collect();
        format!("| {} |", cells.join(" | "))
    };
    let mut text = format!("\n{title}\n\n");
    text += &row(&mut head.iter().copied());
    let rules: Vec<_> = (0..head.len()).map(|column| "-".repeat(width(column))).collect();
    text += &format!("\n| {} |\n", rules.join(" | "));
    for line in lines {
        text += &row(&mut line.iter().map(String::as_str));
        text.push('\n');
    }
    print_text(&text);
}

/// Prints a line.
pub fn print_text(text: &str) {
    use std::io::Write as _;
    // The reader may have closed the pipe, which is not a failure.
    let _ = writeln!(std::io::stdout(), "{text}");
}
