//! Puts texts on the screen, each within its place. Never shows a control character: the texts that it is given have
//! none.

use super::Theme;
use ratatui::{buffer::Buffer, layout::Rect, style::Style, text::Span};

/// The mark of a text that goes on.
const MORE: &str = "…";

/// The screen.
pub struct Canvas<'a> {
    /// Its cells.
    pub buffer: &'a mut Buffer,
    /// Its size.
    pub area: Rect,
    /// What it may look like.
    pub theme: Theme,
}

impl Canvas<'_> {
    /// Puts a text at a place, cut to a width. Returns where it ends. A place outside of the screen stays empty.
    pub fn text(&mut self, x: u16, y: u16, width: u16, text: &str, style: Style) -> u16 {
        if x >= self.area.width || y >= self.area.height {
            return x;
        }
        let style = self.theme.allowed(style);
        if self.width_of(text) <= width {
            return self.buffer.set_stringn(x, y, text, width.into(), style).0;
        }
        let room = width.saturating_sub(1);
        let (end, _) = self.buffer.set_stringn(x, y, text, room.into(), style);
        self.buffer.set_stringn(end, y, MORE, width.min(1).into(), style).0
    }

    /// Puts texts one after the other on a row.
    pub fn line(&mut self, y: u16, pieces: &[(&str, Style)]) {
        self.line_at(0, y, pieces);
    }

    /// The same from a column on.
    pub fn line_at(&mut self, mut x: u16, y: u16, pieces: &[(&str, Style)]) {
        for (text, style) in pieces {
            x = self.text(x, y, self.area.width - x, text, *style);
        }
    }

    /// Puts a text at the right end of a row, if that is free from a column on.
    pub fn right(&mut self, y: u16, from: u16, text: &str, style: Style) {
        let width = self.width_of(text).min(self.area.width - from);
        self.text(self.area.width - width, y, width, text, style);
    }

    /// Gives a whole row a style.
    pub fn fill(&mut self, y: u16, style: Style) {
        let style = self.theme.allowed(style);
        self.buffer.set_style(Rect { x: 0, y, width: self.area.width, height: 1 }, style);
    }

    /// How many columns a text takes.
    pub fn width_of(&self, text: &str) -> u16 {
        Span::raw(text).width().try_into().unwrap_or(u16::MAX)
    }
}
