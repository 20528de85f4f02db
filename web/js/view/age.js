// A time as its distance from now, counted on once a second. Must never draw its surroundings.

import { Component, createRef, html } from '../html.js';
import { ago, duration, utc } from '../format.js';
import { clock } from '../state.js';
import { eachSecond } from '../ticker.js';

// Properties: `at` in ms; `plain` for a duration without the word "ago".
export class Age extends Component {
  text = createRef();

  componentDidMount() {
    this.end = eachSecond(() => this.tick());
  }

  componentWillUnmount() {
    this.end();
  }

  tick(props = this.props) {
    const text = this.words(props);
    const node = this.text.current.firstChild;
    if (node && node.data !== text) node.data = text;
  }

  words({ at, plain }) {
    const age = Math.max(0, clock.now() - at);
    return (plain ? duration(Math.floor(age / 1_000) * 1_000 || age) : ago(age)) || '–';
  }

  // After the first time only ticks write the text: preact does not know what they wrote.
  shouldComponentUpdate(next) {
    if (next.at !== this.props.at) {
      this.text.current.setAttribute('datetime', utc(next.at));
      this.text.current.title = utc(next.at);
    }
    this.tick(next);
    return false;
  }

  render(props) {
    return html`<time ref=${this.text} datetime=${utc(props.at)} title=${utc(props.at)}>${this.words(props)}</time>`;
  }
}
