// What the gateway tells, as types for the checker; nothing here runs.

/** @typedef {{ text: string, token: string }} Cell */
/** @typedef {{ key: string, title: string, right: boolean, sorts: boolean, falling: boolean, width: number, drop: number, grows: boolean, most: number }} Heading */
/** @typedef {{ key: string, cells: Cell[] }} Row */
/** @typedef {{ headings: Heading[], rows: Row[], first: number, total: number, sort: string, reverse: boolean }} Grid */
/** @typedef {{ time: string, connected: boolean, server: string | null, masters: string[], simulated: boolean, complete: boolean, older: number, states: Record<string, number>, dead_letters: number }} Head */
/** @typedef {{ view: string, head: Head, document: Record<string, any>, grid: Grid | null }} Picture */
/** @typedef {{ headings?: Heading[], rows?: Row[], order?: string[], first?: number, total?: number, sort?: string, reverse?: boolean }} GridPatch */
/** @typedef {{ head?: Partial<Head>, document?: Record<string, any>, grid?: GridPatch }} Patch */
/** @typedef {{ role: string, queues: string[], name: string, open: boolean }} Session */
/** @typedef {{ act: string, title: string, lines: { text: string, token: string }[][], command: string, nats: string, count: number, danger: boolean, possible: string[], said: string }} Preview */
/** @typedef {{ command: string, text: string, token: string, ended: boolean }} Receipt */
/** @typedef {{ close?: () => void, show?: (pictures: Picture[]) => void, on?: string[], title: string, main: Node[] }} View */

/**
 * What a view is given.
 *
 * @typedef {object} App
 * @property {(view: View, on: string[]) => void} watch look at other parts than before
 * @property {(name: string, targets: string[]) => void} act begin an act
 * @property {(act: import("./acts.js").Own) => void} own begin an act that has no place in the table of acts
 * @property {(role: string) => boolean} may whether one may do what this role may
 * @property {(text: string, token?: string) => void} tell show a sentence for a while
 * @property {() => Head | null} head what is known of all
 */

export {};
