//! The template engine, set up to do what Jinja does in transformers.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeSet;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Value;
use minijinja::{AutoEscape, Environment, Error, State};

use super::objects::{globals, methods, operators, python};
use super::{FUEL, filters};
use crate::error::{Context, Result};

/// An environment without templates.
pub fn environment() -> Result<Environment<'static>> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.context("cannot set up the template engine")?);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_fuel(Some(FUEL));
    environment.set_formatter(python::format);
    // There is no other template: not even itself, under the name that it has here.
    environment.set_path_join_callback(|name, _| format!("another template: {name}").into());
    environment.set_loader(|name| {
        let what = format!("a chat template cannot include {name}");
        Err::<Option<String>, _>(super::objects::refused(what))
    });
    environment.set_unknown_method_callback(methods::method);
    environment.add_filter("__printed", printed);
    environment.add_function("raise_exception", raise_exception);
    environment.add_function("strftime_now", strftime_now);
    filters::add(&mut environment);
    operators::add(&mut environment);
    globals::add(&mut environment);
    Ok(environment)
}

/// Names that were printed without having a value, of one rendering.
#[derive(Default)]
pub struct Printed(pub BTreeSet<String>);

/// Stands after a printed name in a rewritten template.
fn printed(state: &mut State, value: Value, name: &str) -> Value {
    if value.is_undefined() {
        let names = state.get_or_insert_extension_with(Printed::default);
        names.0.insert(name.to_owned());
    }
    value
}

fn raise_exception(message: &str) -> std::result::Result<String, Error> {
    Err(super::objects::refused(message))
}

fn strftime_now(_state: &State, format: &str) -> std::result::Result<String, Error> {
    date(format)
}

/// The date that templates are told.
pub fn date(format: &str) -> std::result::Result<String, Error> {
    jiff::fmt::strtime::format(format, super::TEMPLATE_DATE.at(0, 0, 0, 0))
        .map_err(|error| super::objects::refused(error.to_string()))
}

/// Jinja reads every kind of line end as `\n`.
pub fn one_kind_of_line_end(source: &str) -> Cow<'_, str> {
    if source.contains('\r') {
        source.replace("\r\n", "\n").replace('\r', "\n").into()
    } else {
        source.into()
    }
}

thread_local! {
    static UNDEFINED: RefCell<BTreeSet<String>> = const { RefCell::new(BTreeSet::new()) };
}

/// Notes the names of a conversation.
pub fn note_undefined(names: BTreeSet<String>) {
    if !names.is_empty() {
        UNDEFINED.with_borrow_mut(|noted| noted.extend(names));
    }
}

/// The names that templates printed though they were undefined, in the conversations that this
/// thread has rendered since it was asked last.
pub fn take_undefined() -> BTreeSet<String> {
    UNDEFINED.take()
}
