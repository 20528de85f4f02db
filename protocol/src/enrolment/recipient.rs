//! The public key to which secrets for a worker are encrypted, in the text form of age. Never encrypts anything,
//! and never has the other half of the key.

use crate::id::as_text;
use alloc::sync::Arc;
use core::{fmt, str::FromStr};

/// The length of the text: `age1`, 52 letters for 32 bytes, 6 letters of checksum.
const SIZE: usize = 62;

const PREFIX: &str = "age1";

/// The letters of Bech32 (BIP 173).
const LETTERS: &[u8] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";

/// An X25519 key of age: `age1…`. It has the right form; the command that encrypts verifies its checksum.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Recipient(Arc<str>);

/// A text is no [`Recipient`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not a public key of age: age1 and {} letters or digits", SIZE - PREFIX.len())]
pub struct NotARecipient;

impl Recipient {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Recipient {
    type Err = NotARecipient;

    fn from_str(text: &str) -> Result<Self, NotARecipient> {
        let letters = text.strip_prefix(PREFIX).ok_or(NotARecipient)?;
        let has_form =
            text.len() == SIZE && letters.bytes().all(|letter| LETTERS.contains(&letter));
        if has_form { Ok(Recipient(text.into())) } else { Err(NotARecipient) }
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

as_text!(Recipient);

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;

    /// From the documentation of age.
    const KEY_OF_AGE: &str = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p";

    #[test]
    fn only_a_text_in_the_form_of_a_key_of_age_is_a_recipient() {
        for good in [
            KEY_OF_AGE,
            "age1qyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqs3290gq",
            "age1qgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpqyqszqgpquuzgag",
        ] {
            let recipient: Recipient = good.parse().expect(good);
            assert_eq!(recipient.as_str(), good);
            let json = serde_json::to_string(&recipient).expect("JSON");
            assert_eq!(serde_json::from_str::<Recipient>(&json).ok(), Some(recipient));
        }
        let short = &KEY_OF_AGE[..SIZE - 1];
        for bad in [
            "",
            "age1",
            short,
            &format!("{KEY_OF_AGE}q"),
            &format!(" {KEY_OF_AGE}"),
            &KEY_OF_AGE.to_uppercase(),
            &KEY_OF_AGE.replace("age1", "ago1"),
            &KEY_OF_AGE.replace('l', "b"),
            "AGE-SECRET-KEY-1QYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQS",
        ] {
            assert_eq!(bad.parse::<Recipient>(), Err(NotARecipient), "{bad}");
        }
    }
}
