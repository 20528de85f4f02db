// A table of any length, of which only the rows in sight are in the document. Arrow keys move between rows,
// Enter opens one. Must never know what its rows are about.

import { Component, createRef, html } from '../html.js';
import { count } from '../format.js';

// Rows are drawn in blocks of so many, so that scrolling by a pixel draws nothing.
const BLOCK = 4;

// Rows beyond each edge of the window, so that fast scrolling shows no gap.
const MARGIN_PX = 200;

// The header of the page covers this much above the first row.
const COVERED_PX = 96;

const phone = matchMedia('(max-width: 760px)');

// Properties: `label`, `kind` (a class, which sets the columns), `columns` ({key, label, sort}), `rows`,
// `keyOf(row)`, `cells(row)` (one array of children a row), `height` and `phoneHeight` in pixels, `sort`
// ({by, down}), `onSort(key)`, `onOpen(row)`, `tone(row)` (a word, which becomes a class), `empty` (what to say without rows).
export class List extends Component {
  state = { first: 0, last: BLOCK * 12, focus: null };
  body = createRef();
  focusIndex = 0;

  componentDidMount() {
    this.look = () => this.measure();
    addEventListener('scroll', this.look, { passive: true });
    addEventListener('resize', this.look);
    phone.addEventListener('change', this.look);
    this.measure();
  }

  componentWillUnmount() {
    removeEventListener('scroll', this.look);
    removeEventListener('resize', this.look);
    phone.removeEventListener('change', this.look);
  }

  componentDidUpdate(before) {
    if (before.rows.length !== this.props.rows.length) this.measure();
    // The focus goes with its row, also when the row is drawn in another element now.
    const active = document.activeElement;
    if (this.wantsFocus || (active.tagName === 'TR' && active.tabIndex < 0 && this.body.current.contains(active))) {
      this.wantsFocus = false;
      this.body.current.querySelector('tr[tabindex="0"]')?.focus({ preventScroll: true });
    }
  }

  height() {
    return phone.matches ? this.props.phoneHeight : this.props.height;
  }

  // Finds the rows in sight.
  measure() {
    const height = this.height();
    const top = this.body.current.getBoundingClientRect().top;
    const first = Math.max(0, Math.floor((-top - MARGIN_PX) / height / BLOCK) * BLOCK);
    const last = Math.max(BLOCK, Math.ceil((innerHeight - top + MARGIN_PX) / height / BLOCK) * BLOCK);
    if (first !== this.state.first || last !== this.state.last || height !== this.drawnHeight) {
      this.setState({ first, last });
    }
  }

  // Moves the focus to a row, and the row into sight.
  moveTo(index) {
    const { rows, keyOf } = this.props;
    if (rows.length === 0) return;
    const to = Math.min(Math.max(index, 0), rows.length - 1);
    const height = this.height();
    const top = this.body.current.getBoundingClientRect().top + to * height;
    if (top < COVERED_PX) scrollBy(0, top - COVERED_PX);
    else if (top + height > innerHeight) scrollBy(0, top + height - innerHeight + 8);
    this.focusIndex = to;
    this.wantsFocus = true;
    this.setState({ focus: keyOf(rows[to]) });
    this.measure();
  }

  onKey = (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || event.target.tagName !== 'TR') return;
    const page = Math.max(1, Math.floor(innerHeight / this.height()) - 4);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    if (event.key in steps) {
      this.moveTo(this.focusedIndex() + steps[event.key]);
    } else if (event.key === 'Enter' || event.key === ' ') {
      this.props.onOpen?.(this.props.rows[this.focusedIndex()]);
    } else {
      return;
    }
    event.preventDefault();
  };

  // Where the focused row is now: rows may have moved since.
  focusedIndex() {
    const { rows, keyOf } = this.props;
    if (this.state.focus === null) return this.focusIndex;
    const at = rows[this.focusIndex];
    if (at && keyOf(at) === this.state.focus) return this.focusIndex;
    const found = rows.findIndex((row) => keyOf(row) === this.state.focus);
    if (found >= 0) this.focusIndex = found;
    return Math.min(this.focusIndex, Math.max(0, rows.length - 1));
  }

  open(row, event) {
    // A reader who selects text or follows a link does not want the row.
    if (event.target.closest('a, button') || String(getSelection()) !== '') return;
    this.props.onOpen?.(row);
  }

  header(column) {
    const { sort, onSort } = this.props;
    const by = sort?.by === column.key;
    const order = by ? (sort.down ? 'descending' : 'ascending') : column.sort ? 'none' : undefined;
    const label = column.sort
      ? html`<button type="button" class="sort" onClick=${() => onSort(column.key)}>${column.label}<span
          class="arrow" aria-hidden="true">${by ? (sort.down ? '↓' : '↑') : ''}</span></button>`
      : column.label;
    return html`<th role="columnheader" scope="col" class=${`c-${column.key}`} aria-sort=${order}>${label}</th>`;
  }

  // `slot` is the element that the row is drawn in. An element that scrolls out of sight is used again for a row
  // that comes into sight: that is much quicker than a new one.
  row(row, index, tabbable, slot) {
    const { columns, keyOf, cells, tone, onOpen } = this.props;
    const key = keyOf(row);
    return html`<tr key=${slot} role="row" aria-rowindex=${index + 2} tabindex=${tabbable ? 0 : -1}
        class=${`${onOpen ? 'opens' : ''} ${tone ? `tone-${tone(row)}` : ''}`}
        style=${{ transform: `translateY(${index * this.drawnHeight}px)` }}
        onClick=${(event) => this.open(row, event)}
        onFocus=${(event) => {
          if (event.target.tagName !== 'TR') return;
          this.focusIndex = index;
          if (this.state.focus !== key) this.setState({ focus: key });
        }}>
      ${cells(row).map((cell, i) => html`<td role="gridcell" class=${`c-${columns[i].key}`}>${cell}</td>`)}
    </tr>`;
  }

  render({ label, kind, columns, rows, empty }, { first, last }) {
    this.drawnHeight = this.height();
    const focused = Math.min(this.focusedIndex(), rows.length - 1);
    const shown = [];
    // The focused row stays in the document, or the focus would be lost with it.
    const tab = focused >= first && focused < last ? focused : this.state.focus === null ? first : focused;
    const slots = Math.ceil((last - first + 2 * BLOCK) / 64) * 64;
    for (let i = first; i < Math.min(last, rows.length); i += 1) shown.push(this.row(rows[i], i, i === tab, i % slots));
    if (tab >= 0 && tab < rows.length && (tab < first || tab >= last)) shown.push(this.row(rows[tab], tab, true, 'focused'));
    return html`<table class=${`list ${kind}`} role="grid" aria-label=${label} aria-rowcount=${rows.length + 1}>
        <thead role="rowgroup"><tr role="row" aria-rowindex="1">${columns.map((column) => this.header(column))}</tr></thead>
        <tbody role="rowgroup" ref=${this.body} onKeyDown=${this.onKey}
          style=${{ height: `${rows.length * this.drawnHeight}px` }}>${shown}</tbody>
      </table>
      ${rows.length === 0 && html`<p class="empty">${empty}</p>`}`;
  }
}

// How many of all are shown, for the heading of a list.
export function shownOf(shown, all) {
  return shown === all ? count(all) : `${count(shown)} of ${count(all)}`;
}

// The next order after a click on a heading: first as given by the column, then the other way round.
export function nextSort(sort, key, startsDown) {
  return sort.by === key ? { by: key, down: !sort.down } : { by: key, down: startsDown };
}
