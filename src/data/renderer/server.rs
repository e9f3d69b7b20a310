//! The other half: the process that renders, started as a hidden command of the program.
//!
//! It answers requests on its standard input until that ends, which it does when the program ends,
//! however that happens. Requests are worked on by a thread of their own with a known stack.

use std::borrow::Cow;
use std::io::{Read, Write};
use std::sync::mpsc::{Receiver, sync_channel};

use serde::Serialize;
use serde_json::Value;

use super::compact::{read_conversations, write_rendered};
use super::limits::{self, ChildLimits};
use super::wire::{COMPACT, Objection, Request, Tried, read_bytes, read_length, write_frame};
use crate::data::formats::Conversation;
use crate::data::handed::{Handed, hand};
use crate::data::stencil::Stencil;
use crate::data::template::{ChatTemplate, Turns};
use crate::error::{Context, Error, ErrorParts, Result};

/// The hidden command of the program.
pub const COMMAND: &str = "render-templates";

/// Answers requests until there are no more.
///
/// # Errors
/// When the requests cannot be read.
pub fn serve(mut input: impl Read, output: impl Write + Send + 'static) -> Result<()> {
    ignore_signals()?;
    // What the engine panics about becomes an answer.
    std::panic::set_hook(Box::new(|_| {}));
    let (hand, frames) = sync_channel(0);
    std::thread::Builder::new()
        .name("template".to_owned())
        .stack_size(limits::STACK)
        .spawn(move || work(&frames, output))
        .context("cannot start a thread")?;
    let limits = ChildLimits::new();
    while let Some(length) = read_length(&mut input).context("cannot read a request")? {
        limits.memory(limits::memory(length));
        ChildLimits::time(limits::seconds(length, 0));
        let frame = read_bytes(&mut input, length).context("cannot read a request")?;
        if hand.send(frame).is_err() {
            break; // the program reads no more answers
        }
    }
    Ok(())
}

/// Interrupts are for the program: it decides what becomes of its work, and this process ends with
/// it.
#[cfg(unix)]
fn ignore_signals() -> Result<()> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    for signal in [SIGHUP, SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, std::sync::Arc::default())
            .context("cannot ignore a signal")?;
    }
    Ok(())
}

#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps)] // the other one may fail
fn ignore_signals() -> Result<()> {
    Ok(())
}

fn work(frames: &Receiver<Vec<u8>>, mut output: impl Write) {
    let mut template = None;
    for frame in frames {
        let answered = answer(&mut template, &frame).and_then(|answer| {
            write_frame(&mut output, &[answer.as_slice()]).context("cannot write the answer")
        });
        if answered.is_err() {
            return; // the program sees that, and says so
        }
    }
}

fn answer(template: &mut Option<ChatTemplate>, frame: &[u8]) -> Result<Vec<u8>> {
    let loaded = || template.as_ref().ok_or_else(|| Error::template("no template was loaded"));
    if let Some((&COMPACT, conversations)) = frame.split_first() {
        let conversations = read_conversations(conversations);
        let (conversations, find_turns) =
            conversations.ok_or_else(|| Error::template("no conversations"))?;
        allow(frame, conversations.iter().map(limits::time).sum());
        let template = loaded()?;
        let rendered = conversations.iter().map(|one| render(template, one, find_turns)).collect();
        return write_rendered(rendered).context("cannot write the answer");
    }
    match serde_json::from_slice(frame).context("not a request")? {
        Request::Load { text, special } => {
            let made = ChatTemplate::new(&text.source, &text.origin, special.into_owned());
            encode(&made.map(|made| *template = Some(made)).map_err(objection))
        }
        Request::Write { conversation, count, generation } => {
            allow(frame, limits::time(&conversation));
            encode(&write(loaded()?, &conversation, count, generation))
        }
        Request::Try { conversation, generation } => {
            allow(frame, 2 * limits::time(&conversation));
            encode(&attempt(loaded()?, &conversation, generation))
        }
        Request::Stencil { outline, samples } => {
            let samples: Vec<Option<Value>> =
                samples.into_iter().map(|sample| sample.map(Cow::into_owned)).collect();
            encode(&Stencil::new(loaded()?, &outline, &samples))
        }
    }
}

/// Writes a conversation, and finds the assistant's turns where they are asked for.
pub(super) fn render(
    template: &ChatTemplate,
    conversation: &Conversation,
    find_turns: bool,
) -> Result<Handed, String> {
    hand(template, conversation, find_turns).map(|(_, handed)| handed)
}

/// Writes the first turns of a conversation, in the form in which the template takes all of it.
pub(super) fn write(
    template: &ChatTemplate,
    conversation: &Conversation,
    count: usize,
    generation: bool,
) -> Result<String, String> {
    // A template that takes it in no form may still write its beginning.
    let turns = match hand(template, conversation, false) {
        Ok((taken, _)) => Turns::new(&taken),
        Err(_) => Turns::new(conversation),
    };
    template.render(&turns, count.min(turns.count()), generation)
}

/// Writes a conversation as training does, and as questions are asked.
pub(super) fn attempt(
    template: &ChatTemplate,
    conversation: &Conversation,
    generation: bool,
) -> Tried {
    template.take_at_limit();
    // Where turns cannot be told apart, the text may still be fine.
    let _ = render(template, conversation, true);
    let count = conversation.messages.len();
    let written = write(template, conversation, count, generation).map(drop);
    Tried { written, at_limit: template.take_at_limit() }
}

/// More time, now that it is known what is to be rendered.
fn allow(frame: &[u8], more: u64) {
    ChildLimits::time(limits::seconds(frame.len() as u64, more));
}

fn encode(answer: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(answer).context("cannot write the answer")
}

fn objection(error: Error) -> Objection {
    let ErrorParts { what, place, causes, hints, code, .. } = error.into_parts();
    Objection { what, code, position: place.and_then(|place| place.position), causes, hints }
}
