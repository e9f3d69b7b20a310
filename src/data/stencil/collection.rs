//! The stencils of a template that were made so far.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::foreseen::{Foreseen, Known};
use super::outline::{Plain, is_bare};
use super::{Stencil, is_sampled};
use crate::data::formats::Conversation;
use crate::data::handed::{Handed, hand};
use crate::data::template::{Unlike, Writes};

/// So many outlines are remembered; data sets in use have some dozens.
const OUTLINES_MAX: usize = 512;
/// So many stencils for conversations of one outline, which differ in the values in them.
const OF_ONE_OUTLINE_MAX: usize = 8;
/// So many bytes of text in all of them.
const SIZE_MAX: usize = 64 << 20;
/// So often it is tried in vain to have one made of conversations of one outline.
const FAILURES_MAX: usize = 2;

/// Stencils, by what conversations have in common.
pub struct Stencils {
    /// Of an outline; `None` where one could not be made.
    made: Mutex<BTreeMap<String, OfOutline>>,
    /// Whether the template marks what is trained.
    has_marks: bool,
    /// Bytes of text in them.
    size: AtomicUsize,
    /// A stencil could not be made within the limits of the process that renders, and the others
    /// would take as long; or there are too many.
    is_hopeless: AtomicBool,
}

/// The stencils of an outline.
type OfOutline = Arc<[Option<Arc<Compared>>]>;

/// A stencil, and whether what it gives was compared with what the template writes.
struct Compared {
    known: Arc<Known>,
    compared: AtomicBool,
}

/// What a stencil gives.
pub struct Filled {
    /// What was put together.
    pub handed: Handed,
    /// Whether it is to be compared with what the template writes.
    pub compare: bool,
}

/// Has a stencil made for conversations like one; an error where that is beyond the limits.
pub type Make<'m> = &'m dyn Fn(&Plain) -> Result<Option<Stencil>, ()>;

impl Stencils {
    /// None yet; of a template that marks what is trained, or does not.
    pub fn new(has_marks: bool) -> Self {
        let (size, is_hopeless) = (AtomicUsize::new(0), AtomicBool::new(false));
        Self { made: Mutex::default(), has_marks, size, is_hopeless }
    }

    /// What the template of this text makes of a conversation, if that is known without rendering
    /// it.
    pub fn filled(
        &self,
        source: &str,
        conversation: &Conversation,
        find_turns: bool,
        make: Make,
    ) -> Option<Filled> {
        let is_first = Cell::new(false);
        let find = |plain: &Plain| {
            let found = self.find(plain, make)?;
            let seen = found.compared.load(Ordering::Relaxed)
                || found.compared.swap(true, Ordering::Relaxed);
            is_first.set(is_first.get() || !seen);
            Some(found.known.clone())
        };
        let bare = match is_bare(conversation) {
            true => {
                let plain = Plain::of(conversation)?;
                find(&plain)?.stencil.fill(conversation, &plain.holes, find_turns)
            }
            false => None,
        };
        let handed = match bare {
            Some(handed) => handed,
            None => {
                let foreseen = Foreseen::new(&find, source, self.has_marks);
                let handed = hand(&foreseen, conversation, find_turns);
                handed.ok().filter(|_| !foreseen.gave_up())?.1
            }
        };
        Some(Filled { handed, compare: is_first.get() || is_sampled(conversation) })
    }

    /// The stencil that admits a conversation.
    fn find(&self, plain: &Plain, make: Make) -> Option<Arc<Compared>> {
        let made = self.made().get(&plain.outline).cloned().unwrap_or_else(|| Arc::new([]));
        let mut failures = 0;
        for stencil in made.iter() {
            match stencil.as_ref().map(|it| it.known.stencil.admits(&plain.holes)) {
                Some(Ok(())) => return stencil.clone(),
                // One of its texts is an exception, also for every other stencil.
                Some(Err(Unlike::Answer)) => return None,
                Some(Err(Unlike::Kind)) => {}
                None => failures += 1,
            }
        }
        let full = made.len() >= OF_ONE_OUTLINE_MAX || failures >= FAILURES_MAX;
        let many = made.is_empty() && self.made().len() >= OUTLINES_MAX;
        if full || many || self.is_hopeless.load(Ordering::Relaxed) {
            return None;
        }
        // Several threads may find it out at the same time: they find the same.
        let stencil = make(plain);
        let size = stencil.as_ref().ok().and_then(Option::as_ref).map_or(0, Stencil::size);
        let before = self.size.fetch_add(size, Ordering::Relaxed);
        let Some(stencil) = stencil.ok().filter(|_| before + size <= SIZE_MAX) else {
            self.is_hopeless.store(true, Ordering::Relaxed);
            return None;
        };
        let known = stencil.and_then(Known::new).map(Arc::new);
        let found = known.map(|known| Arc::new(Compared { known, compared: false.into() }));
        let all = made.iter().cloned().chain([found.clone()]).collect();
        self.made().insert(plain.outline.clone(), all);
        found.filter(|it| it.known.stencil.admits(&plain.holes).is_ok())
    }

    fn made(&self) -> MutexGuard<'_, BTreeMap<String, OfOutline>> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has a stencil stand for conversations of an outline, whatever it gives.
    #[cfg(test)]
    pub fn put(&self, plain: &Plain, stencil: Stencil, compared: bool) {
        let known = Arc::new(Known::new(stencil).expect("an outline"));
        let put = Arc::new(Compared { known, compared: compared.into() });
        self.made().insert(plain.outline.clone(), Arc::new([Some(put)]));
    }
}
