//! Chat templates are rendered in a process of its own, which the system stops at a limit.
//!
//! A template comes with a model, from a stranger. Its instructions and its output are counted
//! ([`ChatTemplate`]), but a string that it doubles, a list that it puts into itself or an
//! expression that the engine takes apart by recursion ends the process that they are in. So that
//! process is another one: the program itself, started with a hidden command, once for each thread
//! that renders; it stays and answers requests over pipes, many conversations at a time. It has
//! limits ([`limits`]), is of no use to anyone once the program is gone, and ends with it. Of most
//! conversations it need not be asked at all ([`stencils`]).
//!
//! A program that uses the library is not started again by it: where [`render_with`] was not
//! called, templates are rendered in the process itself, where what is counted is all that holds.

mod compact;
mod depth;
mod limits;
mod process;
mod question;
mod server;
mod stencils;
mod wire;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use serde_json::Value;

use super::formats::Conversation;
use super::handed::Handed;
use super::stencil::{Plain, Stencil, Stencils};
use super::template::{self, ChatTemplate, Hole, TemplateText};
use crate::error::{Error, Result};
use crate::files::Digest;

use depth::{deep, is_deep};
use process::{End, Process};
use question::{Question, Reader, json, rendered};
use wire::{AllRendered, Loaded, Request, Stencilled, Written};

pub use server::{COMMAND, serve};
pub use wire::Tried;

/// The program that has the hidden command.
static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// Names the program in which templates are rendered. Without one they are rendered in this
/// process, under the limits of [`ChatTemplate`] alone.
pub fn render_with(program: PathBuf) {
    let _ = PROGRAM.set(program); // the first one holds
}

/// A chat template and what renders it.
pub struct TemplateRenderer {
    text: TemplateText,
    special: BTreeMap<String, String>,
    how: How,
    /// What is known of conversations without asking again.
    stencils: Stencils,
}

enum How {
    Here(Box<ChatTemplate>),
    Aside {
        program: PathBuf,
        /// Those that nobody asks at the moment: never more than there were threads that asked.
        idle: Mutex<Vec<Process>>,
    },
}

/// A conversation that a template could not render within the limits.
#[derive(Debug)]
pub struct Exceeded {
    /// Which of those that were handed over, counted from 0.
    pub index: usize,
    /// What happened, in a sentence.
    pub error: Error,
}

impl TemplateRenderer {
    /// Reads a template; `special` names the special tokens that it may write.
    ///
    /// # Errors
    /// When it is not valid, or cannot be read within the limits.
    pub fn new(text: TemplateText, special: BTreeMap<String, String>) -> Result<Self> {
        Self::in_program(text, special, PROGRAM.get().map(PathBuf::as_path))
    }

    /// As [`Self::new`], in this program; here if there is none.
    pub(crate) fn in_program(
        text: TemplateText,
        special: BTreeMap<String, String>,
        program: Option<&Path>,
    ) -> Result<Self> {
        template::check_size(&text)?;
        let how = match program {
            None => {
                let made = ChatTemplate::new(&text.source, &text.origin, special.clone())?;
                How::Here(Box::new(made))
            }
            Some(program) => How::Aside { program: this_program(program), idle: Mutex::default() },
        };
        let has_marks = template::has_marks(&text.source);
        let renderer = Self { text, special, how, stencils: Stencils::new(has_marks) };
        if let How::Aside { program, idle } = &renderer.how {
            let process = renderer.start(program)?;
            lock(idle).push(process);
        }
        Ok(renderer)
    }

    /// Writes conversations, and finds the assistant's turns where `find_turns` asks for them; of
    /// each, why it cannot be written.
    ///
    /// # Errors
    /// When one cannot be rendered within the limits.
    pub fn render(
        &self,
        conversations: &[&Conversation],
        find_turns: bool,
    ) -> Result<AllRendered, Exceeded> {
        let mut open = Vec::new();
        let mut all: Vec<Option<Result<Handed, String>>> = Vec::with_capacity(conversations.len());
        for (index, conversation) in conversations.iter().enumerate() {
            let filled = self.filled(conversation, find_turns);
            open.extend(filled.as_ref().is_none_or(|filled| filled.compare).then_some(index));
            all.push(filled.map(|filled| Ok(filled.handed)));
        }
        let asked: Vec<&Conversation> = open.iter().map(|index| conversations[*index]).collect();
        let answers = self.render_each(&asked, find_turns).map_err(|exceeded| {
            let index = open.get(exceeded.index).copied().unwrap_or_default();
            Exceeded { index, ..exceeded }
        })?;
        for (index, answer) in open.into_iter().zip(answers) {
            self.agree(index, all[index].as_ref(), &answer)?;
            all[index] = Some(answer);
        }
        Ok(all.into_iter().map(|one| one.unwrap_or_else(not_rendered)).collect())
    }

    /// As [`Self::render`], by the template itself.
    fn render_each(
        &self,
        conversations: &[&Conversation],
        find_turns: bool,
    ) -> Result<AllRendered, Exceeded> {
        let deep = conversations.iter().any(|one| is_deep(one));
        if !deep && matches!(self.how, How::Aside { .. }) && conversations.len() > 1 {
            let question = Question::conversations(conversations, find_turns);
            match self.ask_once(&question, rendered) {
                Ok(answer) => return Ok(answer),
                // To look for it would take as long again for each of them.
                Err((End::Time, error)) => {
                    let count = conversations.len();
                    let which = format!("of {count} conversations from this one on");
                    return Err(Exceeded { index: 0, error: error.because(which) });
                }
                Err(_) => {} // one of them ended the process: which one?
            }
        }
        let mut all = Vec::new();
        for (index, conversation) in conversations.iter().enumerate() {
            let one = self.render_one(conversation, find_turns);
            all.push(one.map_err(|error| Exceeded { index, error })?);
        }
        Ok(all)
    }

    fn render_one(
        &self,
        conversation: &Conversation,
        find_turns: bool,
    ) -> Result<Result<Handed, String>> {
        if is_deep(conversation) {
            return Ok(Err(deep()));
        }
        match &self.how {
            How::Here(template) => Ok(server::render(template, conversation, find_turns)),
            How::Aside { .. } => {
                let question = Question::conversations(&[conversation], find_turns);
                let answer = self.ask(&question, rendered)?;
                Ok(answer.into_iter().next().unwrap_or_else(not_rendered))
            }
        }
    }

    /// Writes the first `count` turns of a conversation as text; `generation` adds what precedes
    /// the assistant's answer. The inner error is the template's own reason, in one line.
    ///
    /// # Errors
    /// When it cannot be rendered within the limits.
    pub fn write(
        &self,
        conversation: &Conversation,
        count: usize,
        generation: bool,
    ) -> Result<Result<String, String>> {
        if is_deep(conversation) {
            return Ok(Err(deep()));
        }
        match &self.how {
            How::Here(template) => Ok(server::write(template, conversation, count, generation)),
            How::Aside { .. } => {
                let more = limits::time(conversation);
                let conversation = Cow::Borrowed(conversation);
                let request = Request::Write { conversation, count, generation };
                self.ask(&Question::json(&request, more)?, json::<Written>)
            }
        }
    }

    /// Writes a conversation as a run would, to see whether the template can.
    ///
    /// # Errors
    /// When it cannot be rendered within the limits.
    pub fn attempt(&self, conversation: &Conversation, generation: bool) -> Result<Tried> {
        match &self.how {
            How::Here(template) => Ok(server::attempt(template, conversation, generation)),
            How::Aside { .. } => {
                let more = 2 * limits::time(conversation);
                let request =
                    Request::Try { conversation: Cow::Borrowed(conversation), generation };
                self.ask(&Question::json(&request, more)?, json::<Tried>)
            }
        }
    }

    /// What the template makes of conversations like this one. Where it cannot tell they are
    /// rendered, and where the process ends over it no more is asked of this kind.
    fn stencil(&self, plain: &Plain) -> Result<Option<Stencil>, ()> {
        let sample = |hole: &Hole| match hole {
            Hole::Text(_) => None,
            Hole::Value(value) => Some(value.as_ref().clone()),
        };
        let samples: Vec<Option<Value>> = plain.holes.iter().map(sample).collect();
        match &self.how {
            How::Here(template) => Ok(Stencil::new(template, &plain.outline, &samples)),
            How::Aside { .. } => {
                let samples = samples.into_iter().map(|one| one.map(Cow::Owned)).collect();
                let outline = Cow::Borrowed(plain.outline.as_str());
                let request = Request::Stencil { outline, samples };
                let question = Question::json(&request, 0).map_err(|_| ())?;
                self.ask_once(&question, json::<Stencilled>).map_err(|_| ())
            }
        }
    }

    /// The answer to a request. What a process had left from earlier requests must not decide, so
    /// a new one is asked where an old one fails.
    fn ask<T>(&self, question: &Question, read: Reader<T>) -> Result<T> {
        match self.ask_once(question, read) {
            Err((End::Time, error)) => Err(error),
            Err(_) => {
                self.forget();
                self.ask_once(question, read).map_err(|(_, error)| error)
            }
            Ok(answer) => Ok(answer),
        }
    }

    fn ask_once<T>(&self, question: &Question, read: Reader<T>) -> Result<T, (End, Error)> {
        let How::Aside { program, idle } = &self.how else {
            let why = "templates are rendered here".to_owned();
            return Err((End::Other(why.clone()), Error::template(why)));
        };
        let other = |error: Error| (End::Other(error.what.clone()), error);
        let waiting = lock(idle).pop();
        let mut process = match waiting {
            Some(process) => process,
            None => self.start(program).map_err(other)?,
        };
        let answer = self.exchange(&mut process, question, read)?;
        lock(idle).push(process);
        Ok(answer)
    }

    /// Lets go of the processes that wait.
    fn forget(&self) {
        if let How::Aside { idle, .. } = &self.how {
            lock(idle).clear();
        }
    }

    /// Starts a process and has it read the template.
    fn start(&self, program: &Path) -> Result<Process> {
        let mut process = Process::start(program)?;
        let text = Cow::Borrowed(&self.text);
        let request = Request::Load { text, special: Cow::Borrowed(&self.special) };
        let question = Question::json(&request, 0)?;
        let loaded = self.exchange(&mut process, &question, json::<Loaded>);
        let loaded = loaded.map_err(|(_, error)| error)?;
        loaded.map_err(|objection| {
            let error = Error::template(objection.what).code(objection.code);
            let mut error = match objection.position {
                Some((line, column)) => error.at_position(self.origin(), line, column),
                None => error.at(self.origin()),
            };
            (error.causes, error.hints) = (objection.causes, objection.hints);
            error
        })?;
        Ok(process)
    }

    fn exchange<T>(
        &self,
        process: &mut Process,
        question: &Question,
        read: Reader<T>,
    ) -> Result<T, (End, Error)> {
        let Question { begin, rest, more } = question;
        let bytes = (begin.len() + rest.len()) as u64;
        let answer = process
            .ask(&[*begin, rest.as_slice()], limits::patience(bytes, *more))
            .map_err(|end| (end.clone(), self.exceeded(&end, limits::memory(bytes))))?;
        read(&answer).ok_or_else(|| {
            let end = End::Other("its answer cannot be read".to_owned());
            (end.clone(), self.exceeded(&end, 0))
        })
    }

    fn exceeded(&self, end: &End, memory: u64) -> Error {
        Error::template_limit(match end {
            End::Other(_) => "the chat template could not be rendered",
            _ => "the chat template cannot be rendered within the limits",
        })
        .at(self.origin())
        .because(end.sentence(memory))
        .hint("give one that you trust as `data.chat_template`; `firebrand scan` looks at them")
    }

    /// The template's text, as it stands in its file.
    pub fn source(&self) -> &str {
        &self.text.source
    }

    /// The digest of the template's text.
    pub fn digest(&self) -> Digest {
        Digest::of(self.text.source.as_bytes())
    }

    /// The file it comes from.
    pub fn origin(&self) -> &str {
        &self.text.origin
    }

    /// Whether the template asks for the date, which is then [`template::TEMPLATE_DATE`].
    pub fn asks_for_the_date(&self) -> bool {
        self.text.source.contains("strftime_now")
    }
}

fn not_rendered() -> Result<Handed, String> {
    Err("it was not rendered".to_owned())
}

/// The file of the program as it was started, even where another was put in its place since.
fn this_program(program: &Path) -> PathBuf {
    let itself = Path::new("/proc/self/exe");
    // Where it was replaced, the link says so behind the name.
    let name = program.to_string_lossy().into_owned();
    let same =
        std::fs::read_link(itself).is_ok_and(|target| target.to_string_lossy().starts_with(&name));
    if same { itself.to_path_buf() } else { program.to_path_buf() }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::depth::MAX_DEPTH;
    use super::*;
    use crate::snapshots::says;

    fn renderer(source: &str, program: Option<&Path>) -> Result<TemplateRenderer> {
        let text = TemplateText { source: source.to_owned(), origin: "t.jinja".to_owned() };
        TemplateRenderer::in_program(text, BTreeMap::new(), program)
    }

    #[test]
    fn without_a_program_templates_are_rendered_here() {
        let renderer = renderer("{% for m in messages %}{{ m.content }};{% endfor %}", None);
        let messages = vec![
            json!({"role": "user", "content": "a"}),
            json!({"role": "assistant", "content": "b"}),
        ];
        let conversation = Conversation { messages, ..Conversation::default() };
        let renderer = renderer.unwrap();
        assert_eq!(renderer.write(&conversation, 9, false).unwrap().unwrap(), "a;b;");
        let rendered = renderer.render(&[&conversation, &conversation], true).unwrap();
        assert_eq!(rendered[1].as_ref().unwrap().rendered.text, "a;b;");
    }

    #[test]
    fn values_that_lie_too_deep_are_refused_of_their_record_alone() {
        let renderer =
            renderer("{% for m in messages %}{{ m.content }}{% endfor %}", None).unwrap();
        let mut deep = json!("x");
        for _ in 0..MAX_DEPTH {
            deep = json!([deep]);
        }
        let of = |content: Value| Conversation {
            messages: vec![json!({"role": "user", "content": content})],
            ..Conversation::default()
        };
        let (deep, plain) = (of(deep), of(json!("x")));
        let rendered = renderer.render(&[&deep, &plain], true).unwrap();
        says(
            rendered[0].as_ref().unwrap_err(),
            snapbox::str!["its values are nested more than 100 deep"],
        );
        assert_eq!(rendered[1].as_ref().unwrap().rendered.text, "x");
        assert!(renderer.write(&deep, 1, false).unwrap().is_err());
    }

    #[test]
    fn what_is_too_large_is_refused_before_a_process_starts() {
        let source = format!("{{{{ {}1 }}}}", "1+".repeat(9000));
        let error = renderer(&source, Some(Path::new("/nowhere"))).err().unwrap();
        says(
            error,
            snapbox::str![[r#"
error[template-limit]: the chat template is too large
  at t.jinja:1:1
  because an expression has 18001 words and signs; at most 8192 are accepted
"#]],
        );
    }

    #[test]
    fn a_program_that_cannot_be_started_is_an_error() {
        let error = renderer("x", Some(Path::new("/nowhere"))).err().unwrap();
        says(
            error,
            snapbox::str![[r#"
error[file]: cannot start the program that runs chat templates
  at /nowhere
  because No such file or directory (os error 2)
"#]],
        );
    }
}
