//! `{% generation %}`: marks in a template around what the model writes, as transformers has them.
//!
//! There the block is a call block whose result is noted with its place in the output
//! (`AssistantTracker` in `transformers/utils/chat_template_utils.py`). Here the tag becomes such a
//! call block of an object that does the same, so names and white space behave as they do there.

use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use minijinja::value::{Kwargs, Object, Value, from_args};
use minijinja::{Error, State};

/// The object that notes what stands between marks, by the name under which templates know it.
pub const NAME: &str = "__generation";

/// The template with its marks as call blocks of [`NAME`]; `None` if it has none.
pub fn rewrite(source: &str) -> Option<String> {
    let mut out = String::with_capacity(source.len() + 64);
    let mut rest = source;
    let mut found = false;
    let mut raw = false;
    // Where in `out` the block's text begins, how its tag closes, and the names set in it.
    let mut open: Option<(usize, &str, Vec<&str>)> = None;
    while let Some(start) = rest.find('{') {
        let (before, tag) = rest.split_at(start);
        out.push_str(before);
        let close = match tag.as_bytes().get(1) {
            Some(b'#') if !raw => "#}",
            Some(b'{') if !raw => "}}",
            Some(b'%') => "%}",
            _ => {
                out.push('{');
                rest = &tag[1..];
                continue;
            }
        };
        let (tag, after) = tag.split_at(end(tag, close));
        let word = tag.trim_start_matches("{%").trim_end_matches("%}");
        match word.trim_matches(['-', '+']).trim() {
            "generation" if !raw => {
                found = true;
                out.push_str(&tag.replacen("generation", &format!("call {NAME}()"), 1));
                let close = ["-%}", "+%}"].into_iter().find(|close| tag.ends_with(close));
                open = Some((out.len(), close.unwrap_or("%}"), vec!["loop"]));
            }
            "endgeneration" if !raw => {
                if let Some((at, close, names)) = open.take() {
                    let seen = format!("{{% set {NAME}_sees = [{}] {close}", names.join(", "));
                    out.insert_str(at, &seen);
                }
                out.push_str(&tag.replacen("endgeneration", "endcall", 1));
            }
            word => {
                if let (Some((_, _, names)), Some(name)) = (&mut open, namespace_set(word)) {
                    names.push(name);
                }
                raw = match word {
                    "raw" => true,
                    "endraw" => false,
                    _ => raw,
                };
                out.push_str(tag);
            }
        }
        rest = after;
    }
    out.push_str(rest);
    found.then_some(out)
}

/// The namespace of which a tag sets an attribute. A call block of this engine does not see a name
/// of which it knows no more than that, nor the loop around it in a loop of its own, unless they
/// are named in an expression as well.
fn namespace_set(word: &str) -> Option<&str> {
    let target = word.strip_prefix("set")?.split_once('=')?.0.trim();
    let (name, _) = target.split_once('.')?;
    let name = name.trim_end();
    name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_').then_some(name)
}

/// How long a tag is that ends with `close`; strings in it may hold anything.
fn end(tag: &str, close: &str) -> usize {
    let mut quote = None;
    let mut escaped = false;
    for (at, char) in tag.char_indices().skip(2) {
        match quote {
            Some(open) if char == open && !escaped => quote = None,
            Some(_) => escaped = char == '\\' && !escaped,
            None if tag[at..].starts_with(close) => return at + close.len(),
            None if close != "#}" && (char == '"' || char == '\'') => quote = Some(char),
            None => {}
        }
    }
    tag.len()
}

/// Notes what stands between marks, while a conversation is written.
#[derive(Debug, Default)]
pub struct Marks {
    /// How many bytes the template has written.
    written: Arc<AtomicUsize>,
    /// Where each block begins, and its text.
    noted: Mutex<Vec<(usize, String)>>,
}

impl Marks {
    /// For an output that counts in `written`.
    pub fn new(written: Arc<AtomicUsize>) -> Self {
        Self { written, noted: Mutex::default() }
    }

    /// Where in `text` the blocks stand.
    ///
    /// # Errors
    /// When one was not written where it was made: inside a macro or a captured block.
    pub fn spans(&self, text: &str) -> Result<Vec<Range<usize>>, String> {
        let noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        let span = |(start, block): &(usize, String)| {
            let span = *start..start + block.len();
            (text.get(span.clone()) == Some(block)).then_some(span)
        };
        noted.iter().map(span).collect::<Option<_>>().ok_or_else(|| {
            "`{% generation %}` is inside a macro or a captured block of the chat template, \
             where it cannot be followed; move it to where the text is written, or remove it"
                .to_owned()
        })
    }
}

impl Object for Marks {
    fn call(self: &Arc<Self>, state: &mut State<'_, '_>, args: &[Value]) -> Result<Value, Error> {
        let (kwargs,): (Kwargs,) = from_args(args)?;
        let start = self.written.load(Ordering::Relaxed);
        let block = kwargs.get::<Value>("caller")?.call(state, &[])?;
        let text = block.as_str().unwrap_or_default().to_owned();
        self.noted.lock().unwrap_or_else(PoisonError::into_inner).push((start, text));
        Ok(block)
    }
}
