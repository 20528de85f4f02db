//! What a task's input and output may be, and how each is made from bytes or becomes bytes. It must
//! never change bytes a task takes or gives as they are.

use std::fmt::Display;

use serde::Serialize;
use serde::de::DeserializeOwned;

/// What a task may take. Implement it for a type of your own to give it another encoding.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not something a task can take",
    note = "a task takes `Vec<u8>`, `String`, `()`, `muster::Json<T>` of a type that is `Deserialize`, or an `Option` of one of these"
)]
pub trait FromInput: Sized {
    /// Reads the input as it was submitted.
    ///
    /// # Errors
    ///
    /// What is wrong with the input, in words for whoever submitted it. The task then fails with
    /// this message, and its function is not called.
    fn from_input(input: Vec<u8>) -> Result<Self, String>;
}

/// What a task may return. Implement it for a type of your own to give it another encoding.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not something a task can return",
    note = "a task returns `Vec<u8>`, `String`, `()`, `muster::Json<T>` of a type that is `Serialize`, an `Option` of one of these, or a `Result` whose error is `Display`"
)]
pub trait IntoOutput {
    /// Turns what the task returned into its output.
    ///
    /// # Errors
    ///
    /// Why the task failed, in words for whoever submitted it.
    fn into_output(self) -> Result<Vec<u8>, String>;
}

/// JSON in or out: `Json<T>` is a `T` that travels as JSON.
///
/// Take it apart in the signature, `fn task(Json(order): Json<Order>)`, and wrap what is returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned> FromInput for Json<T> {
    fn from_input(input: Vec<u8>) -> Result<Self, String> {
        serde_json::from_slice(&input)
            .map(Json)
            .map_err(|error| format!("the input is not the JSON this task takes: {error}"))
    }
}

impl<T: Serialize> IntoOutput for Json<T> {
    fn into_output(self) -> Result<Vec<u8>, String> {
        serde_json::to_vec(&self.0)
            .map_err(|error| format!("the output cannot be written as JSON: {error}"))
    }
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

impl<T: IntoOutput, E: Display> IntoOutput for Result<T, E> {
    fn into_output(self) -> Result<Vec<u8>, String> {
        self.map_err(|error| error.to_string())?.into_output()
    }
}

#[cfg(test)]
mod tests {
    use super::{FromInput, IntoOutput, Json};

    #[test]
    fn input_that_fits() {
        assert_eq!(Vec::from_input(vec![0, 255]), Ok(vec![0, 255]));
        assert_eq!(String::from_input(b"gr\xc3\xbcn".to_vec()), Ok("grün".to_owned()));
        assert_eq!(Json::from_input(b"[1, 2]".to_vec()), Ok(Json(vec![1, 2])));
        assert_eq!(<()>::from_input(vec![]), Ok(()));
        assert_eq!(Option::<Json<u8>>::from_input(vec![]), Ok(None));
        assert_eq!(Option::from_input(b"7".to_vec()), Ok(Some(Json(7))));
    }

    #[test]
    fn input_that_does_not_fit_says_why() {
        let no_text = String::from_input(vec![b'a', 255]).expect_err("not UTF-8");
        assert_eq!(no_text, "the input is not text: it is not UTF-8 at byte 1");
        let no_json = Json::<u8>::from_input(b"{}".to_vec()).expect_err("not a number");
        assert!(no_json.contains("line 1 column"), "{no_json}");
        let too_much = <()>::from_input(vec![1]).expect_err("there is input");
        assert_eq!(too_much, "this task takes no input, and was given 1 bytes");
    }

    #[test]
    fn output() {
        assert_eq!(vec![0, 255].into_output(), Ok(vec![0, 255]));
        assert_eq!("text".into_output(), Ok(b"text".to_vec()));
        assert_eq!(Json(("a", 1)).into_output(), Ok(br#"["a",1]"#.to_vec()));
        assert_eq!(().into_output(), Ok(vec![]));
        assert_eq!(None::<String>.into_output(), Ok(vec![]));
        assert_eq!(Ok::<_, String>("fine").into_output(), Ok(b"fine".to_vec()));
        let failed = Err::<String, _>("x".parse::<u8>().expect_err("not a number"));
        assert_eq!(failed.into_output(), Err("invalid digit found in string".to_owned()));
    }
}
