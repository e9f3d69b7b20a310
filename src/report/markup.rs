//! HTML and SVG from templates, in which everything that is put in is text and stays text.

use super::picture::escaped;
use crate::error::{Context, Error, Result};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{AutoEscape, Environment, Output, State};

/// Renders a template of ours.
///
/// # Errors
/// When the template does not fit its values.
pub(super) fn render(template: &str, values: Value) -> Result<String> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.context("cannot set up the template engine")?);
    environment.set_auto_escape_callback(|_| AutoEscape::Html);
    environment.set_formatter(write_text);
    let wrong = |error: minijinja::Error| Error::file("the page cannot be made").because(error);
    environment.render_str(template, values).map_err(wrong)
}

/// What is put in is escaped, unless it was made by a template of ours.
fn write_text(out: &mut Output, _: &mut State, value: &Value) -> Result<(), minijinja::Error> {
    match value.as_str() {
        Some(text) if value.is_safe() => out.write_str(text)?,
        Some(text) => out.write_str(&escaped(text))?,
        None => out.write_str(&escaped(&value.to_string()))?,
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use minijinja::context;

    use super::*;

    #[test]
    fn what_is_put_in_is_text_unless_it_is_of_ours() {
        let values = context! { a => "<b> & \u{202e}", b => "<b>", c => 1 };
        let shown = render("<p>{{ a }}{{ b|safe }}{{ c }}", values).unwrap();
        assert_eq!(shown, "<p>&lt;b&gt; &amp; \\u{202e}<b>1");
    }
}
