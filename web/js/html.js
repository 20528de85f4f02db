// Binds htm to preact: views write html`<p>${text}</p>`. Preact sets text as text nodes and styles by
// script, which the page's CSP allows. Must never offer a way to insert markup as a string.

import { Component, Fragment, createRef, h, render } from '../vendor/preact.mjs';
import htm from '../vendor/htm.module.js';

export const html = htm.bind(h);
export { Component, Fragment, createRef, render };
