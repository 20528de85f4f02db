// The objects that all views share. Must never import a view.

import { ServerClock } from './clock.js';
import { Component } from './html.js';
import { Store } from './store.js';
import { Stream } from './stream.js';
import { Token } from './token.js';

export const clock = new ServerClock();
export const store = new Store();
export const stream = new Stream(store, clock);
export const token = new Token();

// A view that is drawn again when one of the parts of the store that it names changes.
export class Live extends Component {
  // The names of parts, as the store tells them.
  parts() {
    return [];
  }

  componentDidMount() {
    this.endSubscription = store.subscribe((changed) => {
      if (this.parts().some((part) => changed.has(part))) this.forceUpdate();
    });
  }

  componentWillUnmount() {
    this.endSubscription();
  }
}
