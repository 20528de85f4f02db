//! What a task's input and output may be besides JSON, and how each is made from bytes or becomes
//! bytes. It must never change bytes a task takes or gives as they are.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// What a task takes in another way than as JSON. Implement it for a type of your own to give it
/// another encoding; a type that is `Deserialize` needs nothing, and is taken as JSON.
pub trait FromInput: Sized {
    /// Reads the input as it was submitted.
    ///
    /// # Errors
    ///
    /// What is wrong with the input, in words for whoever submitted it. The task then fails with
    /// this message, and its function is not called.
    fn from_input(input: Vec<u8>) -> Result<Self, String>;
}

/// What a task returns in another way than as JSON. Implement it for a type of your own to give it
/// another encoding; a type that is `Serialize` needs nothing, and is returned as JSON.
pub trait IntoOutput {
    /// Turns what the task returned into its output.
    ///
    /// # Errors
    ///
    /// Why the task failed, in words for whoever submitted it.
    fn into_output(self) -> Result<Vec<u8>, String>;
}

/// JSON in or out, said outright: `Json<String>` is a string in quotes, where a `String` is the text
/// itself. Types of your own need no `Json` around them.
///
/// Take it apart in the signature, `fn task(Json(name): Json<String>)`, and wrap what is returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Json<T>(pub T);

/// Reads JSON, or says in words what is wrong with it.
pub(crate) fn read_json<T: DeserializeOwned>(input: &[u8]) -> Result<T, String> {
    serde_json::from_slice(input)
        .map_err(|error| format!("the input is not the JSON this task takes: {error}"))
}

/// Writes JSON, or says in words why it cannot be.
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
        // Dropping it in silence would hide that the wrong module was named.
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
