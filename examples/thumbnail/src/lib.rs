//! Makes a small PNG of a picture: the bytes of a PNG or JPEG file in, a PNG out. It must never let a
//! small file that claims to be a huge picture take more memory than the limit for decoding.

use std::io::Cursor;

use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};

/// The longest side of a thumbnail, in pixels.
const SIDE: u32 = 160;

/// The longest side of an accepted picture, in pixels: beyond what cameras make.
const PICTURE_SIDE_MAX: u32 = 20_000;

/// What decoding may allocate, in bytes: enough for 48 megapixels of three bytes.
const DECODED_MAX: u64 = 160 * 1024 * 1024;

/// Makes a PNG that fits in 160x160 pixels and keeps the picture's proportions. A picture that fits
/// already keeps its size; a photograph is turned the way its file says it was taken.
///
/// # Errors
///
/// When the input is not a PNG or JPEG picture, is damaged, or is too large to decode.
#[muster::task]
pub fn thumbnail(file: Vec<u8>) -> Result<Vec<u8>, String> {
    let picture = decode(&file)?;
    muster::info!("a picture of {}x{} pixels", picture.width(), picture.height());
    let small = if picture.width() <= SIDE && picture.height() <= SIDE {
        picture
    } else {
        picture.thumbnail(SIDE, SIDE)
    };
    // Eight bits per channel are enough at this size. Alpha is kept only if the picture has it.
    let small: DynamicImage = if small.color().has_alpha() {
        small.into_rgba8().into()
    } else {
        small.into_rgb8().into()
    };

    let mut png = Cursor::new(Vec::new());
    small
        .write_to(&mut png, ImageFormat::Png)
        .map_err(|error| format!("the thumbnail cannot be written: {error}"))?;
    Ok(png.into_inner())
}

fn decode(file: &[u8]) -> Result<DynamicImage, String> {
    let mut reader = ImageReader::new(Cursor::new(file))
        .with_guessed_format()
        .map_err(|error| format!("the picture cannot be read: {error}"))?;
    if reader.format().is_none() {
        return Err(format!("the input is not a PNG or JPEG picture ({} bytes)", file.len()));
    }
    let mut limits = Limits::default();
    limits.max_image_width = Some(PICTURE_SIDE_MAX);
    limits.max_image_height = Some(PICTURE_SIDE_MAX);
    limits.max_alloc = Some(DECODED_MAX);
    reader.limits(limits);

    let damaged = |error| format!("the picture cannot be decoded: {error}");
    let mut decoder = reader.into_decoder().map_err(damaged)?;
    let orientation = decoder.orientation().map_err(damaged)?;
    let mut picture = DynamicImage::from_decoder(decoder).map_err(damaged)?;
    picture.apply_orientation(orientation);
    Ok(picture)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use image::{DynamicImage, GenericImageView, ImageFormat, Rgb, RgbImage};

    use super::thumbnail;

    /// The bytes of a file with a picture of one colour.
    fn file(width: u32, height: u32, format: ImageFormat) -> Vec<u8> {
        let picture = RgbImage::from_pixel(width, height, Rgb([200, 100, 50]));
        let mut bytes = Cursor::new(Vec::new());
        DynamicImage::from(picture).write_to(&mut bytes, format).expect("memory does not fail");
        bytes.into_inner()
    }

    fn check(file: Vec<u8>, expected: (u32, u32)) {
        let png = thumbnail(file).expect("a picture");
        let small = image::load_from_memory_with_format(&png, ImageFormat::Png).expect("a PNG");
        assert_eq!(small.dimensions(), expected);
        let red = small.get_pixel(0, 0)[0];
        assert!(red.abs_diff(200) < 3, "the colour is kept: {red}");
    }

    #[test]
    fn fits_and_keeps_its_proportions() {
        check(file(1024, 768, ImageFormat::Png), (160, 120));
        check(file(300, 600, ImageFormat::Jpeg), (80, 160));
        check(file(4000, 2, ImageFormat::Png), (160, 1));
    }

    #[test]
    fn a_small_picture_keeps_its_size() {
        check(file(160, 3, ImageFormat::Png), (160, 3));
    }

    #[test]
    fn what_is_not_a_picture_is_refused_in_words() {
        let refused = |file: Vec<u8>| thumbnail(file).expect_err("not a picture");
        assert!(refused(vec![]).contains("not a PNG or JPEG picture (0 bytes)"));
        assert!(refused(b"hello".to_vec()).contains("not a PNG or JPEG picture"));
        let mut cut = file(64, 64, ImageFormat::Png);
        cut.truncate(cut.len() / 2);
        assert!(refused(cut).contains("cannot be decoded"));
        let wide = file(20_001, 1, ImageFormat::Png);
        assert!(refused(wide).contains("cannot be decoded"));
    }
}
