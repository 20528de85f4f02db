// Starts the page. Must never hold state: state.js does.

import { html, render } from './html.js';
import { stream, token } from './state.js';
import { App } from './view/app.js';

const root = document.getElementById('app');
root.replaceChildren();
render(html`<${App} />`, root);
stream.open();
token.start();
