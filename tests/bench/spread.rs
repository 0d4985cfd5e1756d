//! Measured values of one kind: their median, their worst, how many.

use std::time::Duration;

/// At least one value; larger is worse.
#[derive(Clone, Debug)]
pub(crate) struct Spread {
    sorted: Vec<f64>,
}

impl Spread {
    /// # Panics
    /// When nothing was measured.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        assert!(!sorted.is_empty(), "nothing was measured");
        sorted.sort_by(f64::total_cmp);
        Self { sorted }
    }

    pub(crate) fn milliseconds(values: &[Duration]) -> Self {
        Self::of(values.iter().map(|value| value.as_secs_f64() * 1e3))
    }

    pub(crate) fn rounds(&self) -> usize {
        self.sorted.len()
    }

    /// The middle one; of an even number, the mean of the two in the middle.
    pub(crate) fn median(&self) -> f64 {
        let (upper, lower) = (self.sorted.len() / 2, (self.sorted.len() - 1) / 2);
        (self.sorted[lower] + self.sorted[upper]) / 2.0
    }

    pub(crate) fn worst(&self) -> f64 {
        self.sorted.last().copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle_and_the_worst_is_the_largest() {
        let odd = Spread::of([3.0, 1.0, 2.0]);
        assert_eq!((odd.median(), odd.worst(), odd.rounds()), (2.0, 3.0, 3));
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 3.0]).median(), 2.5);
    }
}
