//! Documents of packed rows for operations that go through each from its beginning: a convolution
//! looks back no further than that, and a recurrent state begins there. Documents are worked on in
//! chunks, those of the same number of all documents at once.

use std::sync::{Arc, Mutex, PoisonError};

use burn::tensor::{Device, Int, Tensor};

use crate::ops::{from_vec, indices};

/// Tokens of a chunk, unless all documents are shorter.
pub const CHUNK: usize = 64;

/// The documents of a micro-batch.
#[derive(Debug)]
pub struct Sequences {
    /// Place of each token in its document; zero outside of documents.
    places: Vec<u32>,
    spans: Vec<(usize, usize)>,
    /// Tensors are made when they are needed, and then for all layers.
    made: Mutex<Made>,
}

#[derive(Debug, Default)]
struct Made {
    /// For distances from 1 on.
    before: Vec<Tensor<2>>,
    chunks: Option<Arc<Chunks>>,
}

impl Sequences {
    /// Of documents by first token and length, and of all tokens.
    pub fn new(spans: &[(usize, usize)], tokens: usize) -> Self {
        let mut places = vec![0; tokens];
        for (first, count) in spans {
            for (place, number) in places[*first..first + count].iter_mut().zip(0..) {
                *place = number;
            }
        }
        Self { places, spans: spans.to_vec(), made: Mutex::default() }
    }

    /// `[tokens, 1]`: one where there are so many tokens before one in its document, else zero.
    pub fn before(&self, distance: usize, device: &Device) -> Tensor<2> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        while made.before.len() < distance {
            let next = made.before.len() + 1;
            let reaches = |place: &u32| if *place as usize >= next { 1.0 } else { 0.0 };
            let mask = self.places.iter().map(reaches).collect();
            made.before.push(from_vec(mask, [self.places.len(), 1], device));
        }
        made.before[distance - 1].clone()
    }

    /// All chunks.
    pub fn chunks(&self, device: &Device) -> Arc<Chunks> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let chunks = || Arc::new(Chunks::new(&self.spans, self.places.len(), device));
        made.chunks.get_or_insert_with(chunks).clone()
    }
}

/// Chunks of all documents: first those that begin one, then those that come second, and so on; in
/// each step those of longer documents first, so that the documents of a step are the first of
/// those of the step before.
#[derive(Debug)]
pub struct Chunks {
    /// How many there are.
    pub count: usize,
    /// Tokens of each.
    pub size: usize,
    /// Number of chunks of each step.
    pub steps: Vec<usize>,
    /// The token at each place of a chunk; that after the last token where there is none.
    tokens: Tensor<1, Int>,
    /// The place of each token; that after the last place for tokens outside of documents.
    places: Tensor<1, Int>,
    /// `[size, size]`: one where the row is not before the column.
    pub seen: Tensor<2>,
    /// `[size, size]`: one where the row is after the column.
    pub earlier: Tensor<2>,
    /// `[size, size]`: where parts of 1, 2, 4, … that follow each other meet, the later ones as
    /// rows.
    pub borders: Vec<Tensor<2>>,
}

impl Chunks {
    fn new(spans: &[(usize, usize)], all: usize, device: &Device) -> Self {
        let longest = spans.iter().map(|span| span.1).max().unwrap_or(1);
        let size = longest.next_power_of_two().min(CHUNK);
        let mut order: Vec<(usize, usize)> = spans.to_vec();
        order.sort_by_key(|(first, count)| (std::cmp::Reverse(*count), *first));
        let beyond = u32::try_from(all).expect("micro-batches stay below 2^32 tokens");
        let (mut tokens, mut places, mut steps) = (Vec::new(), vec![None; all], Vec::new());
        for step in 0..longest.div_ceil(size) {
            let here = order.iter().take_while(|(_, count)| *count > step * size);
            steps.push(here.clone().count());
            for (first, count) in here {
                for place in step * size..(step + 1) * size {
                    let token = (place < *count).then_some(first + place);
                    if let Some(token) = token {
                        places[token] = Some(tokens.len());
                    }
                    tokens
                        .push(token.and_then(|token| u32::try_from(token).ok()).unwrap_or(beyond));
                }
            }
        }
        steps.retain(|count| *count > 0);
        let end = tokens.len();
        let place = |place: &Option<usize>| u32::try_from(place.unwrap_or(end)).unwrap_or(beyond);
        let square = |inside: &dyn Fn(usize, usize) -> bool| {
            let one = |index: usize| f32::from(inside(index / size, index % size));
            from_vec((0..size * size).map(one).collect(), [size, size], device)
        };
        let widths = (0..size.ilog2()).map(|power| 1_usize << power);
        let borders = widths.map(|width| {
            square(&|row, column| row / width % 2 == 1 && row / width == column / width + 1)
        });
        Self {
            count: end / size,
            size,
            steps,
            tokens: indices(tokens.into_iter(), device),
            places: indices(places.iter().map(place), device),
            seen: square(&|row, column| row >= column),
            earlier: square(&|row, column| row > column),
            borders: borders.collect(),
        }
    }

    /// Rows `[tokens, features]` as those of chunks, `[count · size, features]`; zeros where there
    /// is no token.
    pub fn gather(&self, x: Tensor<2>) -> Tensor<2> {
        with_zeros(x).select(0, self.tokens.clone())
    }

    /// Back; zeros for tokens outside of documents.
    pub fn scatter(&self, y: Tensor<2>) -> Tensor<2> {
        with_zeros(y).select(0, self.places.clone())
    }
}

/// A row of zeros more.
fn with_zeros(x: Tensor<2>) -> Tensor<2> {
    let zeros = Tensor::zeros([1, x.dims()[1]], &x.device());
    Tensor::cat(vec![x, zeros], 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::host;

    #[test]
    fn every_token_of_a_document_has_one_place_and_padding_has_none() {
        let spans = [(2, 70), (72, 1), (75, 200)];
        let sequences = Sequences::new(&spans, 280);
        let device = Device::flex();
        let chunks = sequences.chunks(&device);
        assert_eq!((chunks.size, chunks.steps.as_slice()), (64, [3, 2, 1, 1].as_slice()));
        let numbers: Vec<f32> = (0..280).map(|token| token as f32 + 1.0).collect();
        let x = from_vec(numbers.clone(), [280, 1], &device);
        let gathered = chunks.gather(x);
        assert_eq!(gathered.dims(), [7 * 64, 1]);
        // The longest first.
        assert_eq!(host(gathered.clone())[..2], [76.0, 77.0]);
        let inside = |token: usize| {
            spans.iter().any(|(first, count)| (*first..first + count).contains(&token))
        };
        let expected = (0..280).map(|token| if inside(token) { numbers[token] } else { 0.0 });
        assert_eq!(host(chunks.scatter(gathered)), expected.collect::<Vec<_>>());
        let before = host(sequences.before(2, &device));
        assert_eq!(before[..6], [0.0, 0.0, 0.0, 0.0, 1.0, 1.0]);
        assert_eq!((before[72], before[76], before[77]), (0.0, 0.0, 1.0));
    }

    #[test]
    fn short_documents_have_short_chunks() {
        let chunks = Sequences::new(&[(0, 3), (3, 5)], 8).chunks(&Device::flex());
        assert_eq!((chunks.size, chunks.count, chunks.borders.len()), (8, 2, 3));
    }
}
