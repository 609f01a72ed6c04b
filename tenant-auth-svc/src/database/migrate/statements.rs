//! The statements of a file with SQL.

/// Splits a file into statements: a statement ends at a line that ends with a semicolon, a trigger at a line `END;`.
pub(super) fn split_statements(sql: &str) -> Vec<String> {
    let mut statements = Vec::new();
    let mut statement = String::new();
    let code = sql.lines().filter(|line| !line.trim_start().starts_with("--"));
    for line in code.filter(|line| !line.trim().is_empty()) {
        statement.push_str(line);
        statement.push('\n');
        let ends = if statement.starts_with("CREATE TRIGGER") { line == "END;" } else { line.ends_with(';') };
        if ends {
            statements.push(std::mem::take(&mut statement));
        }
    }
    statements
}
