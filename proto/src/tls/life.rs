//! How long a certificate lives, and when it is time for the next.

use std::time::{Duration, SystemTime};

use super::TlsError;

/// Certificates begin so long before they are made, for clocks that are behind.
pub const BACKDATING: Duration = Duration::from_secs(5 * 60);

/// From when until when a certificate holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// Not before.
    pub from: SystemTime,
    /// Not after.
    pub until: SystemTime,
}

impl Life {
    /// Of this certificate.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn of_certificate(der: &[u8]) -> Result<Self, TlsError> {
        let certificate = super::serial::parse(der)?;
        let at = |seconds: i64| {
            SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
        };
        let validity = certificate.validity();
        Ok(Self {
            from: at(validity.not_before.timestamp()),
            until: at(validity.not_after.timestamp()),
        })
    }

    /// When to renew: at 50 to 80 % of the life since it was issued; `chance` (0 to 1) says where,
    /// so that a fleet that was enrolled in one minute does not renew in one minute.
    #[must_use]
    pub fn renewal(&self, chance: f64) -> SystemTime {
        let issued = (self.from + BACKDATING).min(self.until);
        let life = self.until.duration_since(issued).unwrap_or_default();
        issued + life.mul_f64(0.5 + 0.3 * chance.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewal_falls_between_half_and_four_fifths_of_a_life() {
        let issued = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let life = Life {
            from: issued - BACKDATING,
            until: issued + Duration::from_secs(1000),
        };
        assert_eq!(life.renewal(0.0), issued + Duration::from_secs(500));
        assert_eq!(life.renewal(1.0), issued + Duration::from_secs(800));
        assert_eq!(life.renewal(7.0), issued + Duration::from_secs(800));
    }
}
