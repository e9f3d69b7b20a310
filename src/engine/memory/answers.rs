//! What texts take that the model writes to learn from them.

use super::{F32, Workload};
use crate::model::Description;
use crate::ops::AttentionConfig;
use crate::ops::cpu::{CACHE_PAGE, CacheFormat, Products};

/// What texts take that are written at the same time: keys and values, and scores, from which each
/// thread draws a token.
pub fn bytes(description: &Description, work: &Workload) -> u64 {
    let (texts, outputs) = (work.answers.texts as u64, description.outputs() as u64);
    let cached = match Products::of(work.computing()) {
        Some(products) if !work.on_gpu && !description.shares_keys() => {
            in_pages(description, work, products)
        }
        _ => in_tensors(description, work),
    };
    let drawn = if texts > 0 { work.threads as u64 * outputs } else { 0 };
    cached + (texts * outputs + drawn) * F32
}

/// Keys and values for the kernels of the CPU: texts share the pages of their prompt, except for
/// its last, in which each goes on by itself.
fn in_pages(description: &Description, work: &Workload, products: Products) -> u64 {
    let written = work.answers;
    let prompt = work.length.saturating_sub(written.tokens);
    let of_layer = |config: AttentionConfig| {
        // A window begins anywhere in its first page, and ends in one that the next token begins.
        let most = config.window.map_or(usize::MAX, |it| it.saturating_add(CACHE_PAGE));
        let held = |tokens: usize| tokens.min(most).next_multiple_of(CACHE_PAGE);
        let of_texts = written.texts * held(written.tokens + CACHE_PAGE);
        let tokens = written.prompts * held(prompt) + of_texts;
        let format = CacheFormat::of(products.rounds(), config.heads.width);
        (2 * config.key_width() * tokens * format.bytes()) as u64
    };
    description.caching_attention().map(of_layer).sum()
}

/// Keys and values in tensors, a half more than needed while a token is joined; twice a window at
/// most.
fn in_tensors(description: &Description, work: &Workload) -> u64 {
    let of_layer = |config: AttentionConfig| {
        let most = config.window.map_or(usize::MAX, |window| window.saturating_mul(2));
        (2 * config.key_width() * work.length.min(most)) as u64
    };
    let of_text: u64 = description.caching_attention().map(of_layer).sum();
    work.answers.texts as u64 * of_text * F32 * 3 / 2
}

#[cfg(test)]
mod tests {
    use super::super::WrittenAnswers;
    use super::*;
    use crate::config::Kernels;
    use crate::device::Arithmetic;
    use crate::model::description::BlockDescription;
    use crate::model::fixture::small_llama;

    const OUTPUTS: u64 = 1000;
    const THREADS: u64 = 2;

    /// Two layers of two heads of keys of this width, which see all tokens or a window of them.
    fn description(width: usize, window: Option<usize>) -> Description {
        let mut description = small_llama();
        let layers = description.layers.iter_mut();
        for residual in layers.flat_map(|layer| &mut layer.residuals) {
            if let BlockDescription::Attention(attention) = &mut residual.block {
                attention.config.window = window;
                attention.config.heads.width = width;
            }
        }
        description
    }

    /// Keys and values of sixteen answers of 256 tokens to prompts of 768, two at a time.
    fn cached(description: &Description, on_gpu: bool, arithmetic: Arithmetic) -> u64 {
        let answers = WrittenAnswers { texts: 16, prompts: 3, tokens: 256 };
        let device = Workload::on(on_gpu, arithmetic, Kernels::Fast);
        let work = Workload { answers, length: 1024, threads: 2, ..device };
        bytes(description, &work) - (16 + THREADS) * OUTPUTS * F32
    }

    #[test]
    fn texts_share_the_pages_of_their_prompts() {
        let plain = &description(16, None);
        // Keys and values of two layers.
        let of_token = 2 * 2 * 2 * 16;
        let tokens = 3 * 768 + 16 * (256 + 32);
        assert_eq!(cached(plain, false, Arithmetic::F32), tokens * of_token * 4);
        assert_eq!(cached(plain, false, Arithmetic::MixedBf16), tokens * of_token * 2);
        // Tensors are copied as they grow.
        assert_eq!(cached(plain, true, Arithmetic::F32), 16 * 1024 * of_token * 4 * 3 / 2);
        // Two numbers in 32 bits need an even width.
        let odd = cached(&description(15, None), false, Arithmetic::MixedBf16);
        assert_eq!(odd, tokens * 2 * 2 * 2 * 15 * 4);
        // A window of 100 tokens begins anywhere in a page.
        let window = cached(&description(16, Some(100)), false, Arithmetic::F32);
        assert_eq!(window, (3 + 16) * 160 * of_token * 4);
        let nothing = Workload::on(false, Arithmetic::F32, Kernels::Fast);
        assert_eq!(bytes(plain, &nothing), 0);
    }
}
