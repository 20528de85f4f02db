// The button that switches between the system's colours, light and dark. theme.js applies the choice before
// the first paint. Must never be the only way to dark colours: the system's choice counts by default.

import { Component, html } from '../html.js';

const ORDER = ['auto', 'light', 'dark'];
const KEY = 'muster-theme';

export class ThemeButton extends Component {
  state = { theme: document.documentElement.dataset.theme ?? 'auto' };

  next = () => {
    const theme = ORDER[(ORDER.indexOf(this.state.theme) + 1) % ORDER.length];
    document.documentElement.dataset.theme = theme;
    try {
      localStorage.setItem(KEY, theme);
    } catch {
      // Storage is switched off: the choice lasts until the page is loaded again.
    }
    dispatchEvent(new Event('muster-theme'));
    this.setState({ theme });
  };

  render(_, { theme }) {
    return html`<button type="button" class="quiet" onClick=${this.next}
      aria-label=${`Colours: ${theme}. Switch.`}>${theme}</button>`;
  }
}

// Calls `listener` when the colours have changed, by the button or by the system.
export function onTheme(listener) {
  const dark = matchMedia('(prefers-color-scheme: dark)');
  addEventListener('muster-theme', listener);
  dark.addEventListener('change', listener);
  return () => {
    removeEventListener('muster-theme', listener);
    dark.removeEventListener('change', listener);
  };
}
