//! Types with an encoding other than JSON, and how to read and write them. Never changes bytes or text
//! that a task takes or returns as they are.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// An input in another encoding than JSON. Implement it for a type of your own to give it another encoding. A
/// type that is `Deserialize` needs no implementation; it is read as JSON.
pub trait FromInput: Sized {
    /// Decodes the input as it was submitted.
    ///
    /// # Errors
    ///
    /// What is wrong with the input, as a message for the submitter. The task then fails with this message, and
    /// its function is not called.
    fn from_input(input: Vec<u8>) -> Result<Self, String>;
}

/// An output in another encoding than JSON. Implement it for a type of your own to give it another encoding. A
/// type that is `Serialize` needs no implementation; it is written as JSON.
pub trait IntoOutput {
    /// Encodes what the task returned.
    ///
    /// # Errors
    ///
    /// Why the task failed, as a message for the submitter.
    fn into_output(self) -> Result<Vec<u8>, String>;
}

/// Explicit JSON: `Json<String>` is a JSON string in quotes, while a `String` is the text itself. Types of your
/// own need no `Json` around them.
///
/// Take an input apart in the signature, `fn task(Json(name): Json<String>)`, and wrap an output in `Json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Json<T>(pub T);

/// Decodes JSON. The error says what is wrong with it.
pub(crate) fn read_json<T: DeserializeOwned>(input: &[u8]) -> Result<T, String> {
    serde_json::from_slice(input)
        .map_err(|error| format!("the input is not the JSON this task takes: {error}"))
}

/// Encodes JSON. The error says why it is not possible.
pub(crate) fn write_json<T: Serialize>(output: &T) -> Result<Vec<u8>, String> {
    serde_json::to_vec(output)
        .map_err(|error| format!("the output cannot be written as JSON: {error}"))
}

impl FromInput for Vec<u8> {
    fn from_input(input: Vec<u8>) -> Result<Self, String> {
        Ok(input)
    }
}

impl IntoOutput for Vec<u8> {
    fn into_output(self) -> Result<Vec<u8>, String> {
        Ok(self)
    }
}

impl IntoOutput for &[u8] {
    fn into_output(self) -> Result<Vec<u8>, String> {
        Ok(self.to_vec())
    }
}

impl FromInput for String {
    fn from_input(input: Vec<u8>) -> Result<Self, String> {
        String::from_utf8(input).map_err(|error| {
            let place = error.utf8_error().valid_up_to();
            format!("the input is not text: it is not UTF-8 at byte {place}")
        })
    }
}

impl IntoOutput for String {
    fn into_output(self) -> Result<Vec<u8>, String> {
        Ok(self.into_bytes())
    }
}

impl IntoOutput for &str {
    fn into_output(self) -> Result<Vec<u8>, String> {
        Ok(self.as_bytes().to_vec())
    }
}

impl FromInput for () {
    fn from_input(input: Vec<u8>) -> Result<Self, String> {
        // To ignore the bytes silently would hide that the submission names the wrong module.
        match input.len() {
            0 => Ok(()),
            length => Err(format!("this task takes no input, and was given {length} bytes")),
        }
    }
}

impl IntoOutput for () {
    fn into_output(self) -> Result<Vec<u8>, String> {
        Ok(Vec::new())
    }
}

impl<T: FromInput> FromInput for Option<T> {
    fn from_input(input: Vec<u8>) -> Result<Self, String> {
        if input.is_empty() { Ok(None) } else { T::from_input(input).map(Some) }
    }
}

impl<T: IntoOutput> IntoOutput for Option<T> {
    fn into_output(self) -> Result<Vec<u8>, String> {
        self.map_or_else(|| Ok(Vec::new()), T::into_output)
    }
}

#[cfg(test)]
mod tests {
    use super::{FromInput, IntoOutput};

    #[test]
    fn input_that_fits() {
        assert_eq!(Vec::from_input(vec![0, 255]), Ok(vec![0, 255]));
        assert_eq!(String::from_input(b"gr\xc3\xbcn".to_vec()), Ok("grün".to_owned()));
        assert_eq!(<()>::from_input(vec![]), Ok(()));
        assert_eq!(Option::<String>::from_input(vec![]), Ok(None));
        assert_eq!(Option::from_input(b"7".to_vec()), Ok(Some("7".to_owned())));
    }

    #[test]
    fn input_that_does_not_fit_says_why() {
        let no_text = String::from_input(vec![b'a', 255]).expect_err("not UTF-8");
        assert_eq!(no_text, "the input is not text: it is not UTF-8 at byte 1");
        let too_much = <()>::from_input(vec![1]).expect_err("there is input");
        assert_eq!(too_much, "this task takes no input, and was given 1 bytes");
    }

    #[test]
    fn output() {
        assert_eq!(vec![0, 255].into_output(), Ok(vec![0, 255]));
        assert_eq!([0_u8, 255].as_slice().into_output(), Ok(vec![0, 255]));
        assert_eq!("text".into_output(), Ok(b"text".to_vec()));
        assert_eq!(().into_output(), Ok(vec![]));
        assert_eq!(None::<String>.into_output(), Ok(vec![]));
    }
}
