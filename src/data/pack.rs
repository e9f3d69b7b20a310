//! Packing: short documents share a row, whole, in a way that depends on nothing but their order.

/// So many rows are kept open for a document that fits. More would fill rows a little better and
/// tear documents that follow each other further apart.
const OPEN_ROWS: usize = 64;

/// How documents are put into rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// One document per row.
    None,
    /// Documents fill row after row, in their order.
    InOrder,
    /// Each document goes into the open row that it fills best.
    BestFit,
}

/// A row in the making.
struct Row {
    free: usize,
    places: Vec<u32>,
}

/// Puts documents into rows of at most `max` tokens. `documents` are place and length of each, in
/// order; a longer one than `max` has a row of its own. Rows come in the order in which they were
/// begun.
pub fn pack(
    documents: impl IntoIterator<Item = (u32, usize)>,
    max: usize,
    packing: Packing,
) -> Vec<Vec<u32>> {
    let limit = match packing {
        Packing::None => 0,
        Packing::InOrder => 1,
        Packing::BestFit => OPEN_ROWS,
    };
    let mut rows: Vec<Row> = Vec::new();
    let mut open: Vec<usize> = Vec::new(); // numbers of rows, in the order in which they were begun
    for (place, length) in documents {
        let fitting = open.iter().enumerate().filter(|(_, row)| rows[**row].free >= length);
        // Of equally good rows, the oldest.
        match fitting.min_by_key(|(_, row)| rows[**row].free).map(|(at, row)| (at, *row)) {
            Some((at, row)) => {
                rows[row].free -= length;
                rows[row].places.push(place);
                if rows[row].free == 0 {
                    open.remove(at);
                }
            }
            None => {
                let free = max.saturating_sub(length);
                rows.push(Row { free, places: vec![place] });
                if packing == Packing::InOrder {
                    open.clear();
                }
                if free > 0 {
                    open.push(rows.len() - 1);
                }
                if open.len() > limit {
                    let fullest = (0..open.len()).min_by_key(|&at| rows[open[at]].free);
                    open.remove(fullest.unwrap_or(0));
                }
            }
        }
    }
    rows.into_iter().map(|row| row.places).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Stream;

    fn lengths(seed: u64, count: u64, max: u64) -> Vec<usize> {
        let stream = Stream::new(seed);
        (0..count).map(|i| 1 + (stream.bits(i) % max) as usize).collect()
    }

    fn packed(lengths: &[usize], max: usize, packing: Packing) -> Vec<Vec<u32>> {
        pack((0..).zip(lengths.iter().copied()), max, packing)
    }

    #[test]
    fn every_document_has_one_place_and_no_row_overflows() {
        for seed in 0..50 {
            let max = 8 + (seed as usize * 7) % 90;
            let lengths = lengths(seed, 700, max as u64);
            for packing in [Packing::None, Packing::InOrder, Packing::BestFit] {
                let rows = packed(&lengths, max, packing);
                let mut seen: Vec<u32> = rows.iter().flatten().copied().collect();
                if packing != Packing::BestFit {
                    assert!(seen.is_sorted(), "the order is kept");
                }
                seen.sort_unstable();
                assert!(seen.iter().copied().eq(0..700));
                for row in &rows {
                    let sum: usize = row.iter().map(|place| lengths[*place as usize]).sum();
                    assert!(sum <= max && !row.is_empty());
                    assert!(row.is_sorted(), "documents keep their order within a row");
                }
            }
        }
    }

    #[test]
    fn best_fit_fills_rows_well() {
        let lengths = lengths(3, 20_000, 400);
        let rows = packed(&lengths, 1024, Packing::BestFit);
        let filled = lengths.iter().sum::<usize>() as f64 / (rows.len() * 1024) as f64;
        assert!(filled > 0.97, "{filled}");
        assert_eq!(packed(&lengths, 1024, Packing::None).len(), 20_000);
    }

    #[test]
    fn in_order_packs_neighbours_only() {
        let rows = packed(&[5, 5, 9, 1, 3], 10, Packing::InOrder);
        assert_eq!(rows, [vec![0, 1], vec![2, 3], vec![4]]);
        let rows = packed(&[5, 5, 9, 3, 1], 10, Packing::BestFit);
        assert_eq!(rows, [vec![0, 1], vec![2, 4], vec![3]]);
    }

    #[test]
    fn an_overlong_document_has_a_row_of_its_own() {
        assert_eq!(packed(&[3, 20, 3], 10, Packing::InOrder), [vec![0], vec![1], vec![2]]);
    }
}
