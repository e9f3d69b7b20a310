//! The order of heads of values in files of the gated delta rule.

/// Heads of values as transformers has them, those of a head of keys one after the other, and as
/// llama.cpp has them: the first of every head of keys, then the second. What stands before them
/// stays in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValueHeads {
    /// Rows that stand before the heads.
    pub before: usize,
    /// Heads of keys.
    pub keys: usize,
    /// Heads of values for each.
    pub per_key: usize,
    /// Rows of a head.
    pub rows: usize,
}

impl ValueHeads {
    /// Where llama.cpp has the row that transformers has at a place.
    pub fn place(self, row: usize) -> usize {
        let Some(within) = row.checked_sub(self.before) else { return row };
        let (head, row) = (within / self.rows, within % self.rows);
        let (key, value) = (head / self.per_key, head % self.per_key);
        self.before + (value * self.keys + key) * self.rows + row
    }

    /// Rows of `width` numbers as transformers has them, of those of llama.cpp.
    pub fn rows_back<T: Copy>(self, values: &[T], width: usize) -> Vec<T> {
        let rows = 0..values.len() / width.max(1);
        rows.flat_map(|row| &values[self.place(row) * width..][..width]).copied().collect()
    }

    /// The same of columns.
    pub fn columns_back(self, values: &[f32], width: usize) -> Vec<f32> {
        let of_row = |row: &[f32]| (0..width).map(|at| row[self.place(at)]).collect::<Vec<_>>();
        values.chunks_exact(width.max(1)).flat_map(of_row).collect()
    }

    /// Columns as llama.cpp has them, of those of transformers.
    pub fn columns(self, values: &[f32], width: usize) -> Vec<f32> {
        let mut all = vec![0.0; values.len()];
        for (row, out) in values.chunks_exact(width).zip(all.chunks_exact_mut(width)) {
            row.iter().enumerate().for_each(|(at, value)| out[self.place(at)] = *value);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_lie_tile_by_tile_and_come_back() {
        // One row before; two heads of keys with three of values each, of two rows.
        let heads = ValueHeads { before: 1, keys: 2, per_key: 3, rows: 2 };
        let places: Vec<usize> = (0..13).map(|row| heads.place(row)).collect();
        assert_eq!(places, [0, 1, 2, 5, 6, 9, 10, 3, 4, 7, 8, 11, 12]);
        let values: Vec<f32> = (0..13_u8).map(f32::from).collect();
        let moved = heads.columns(&values, 13);
        assert_eq!(moved[3], 7.0);
        assert_eq!(heads.columns_back(&moved, 13), values);
        assert_eq!(heads.rows_back(&moved, 1), values);
    }
}
