// The degree slider: computed pictures are its nodes, between two of them their pixels are mixed.

const SAME = 1e-6;

/**
 * What to show at a degree.
 * @template {{degree: number}} N
 * @param {N[]} nodes computed pictures, in the order of their degrees
 * @param {number} degree
 * @returns {{kind: "computed" | "between" | "nearest", picture: N, over: N | null, share: number}}
 */
export function lookUp(nodes, degree) {
  const exact = nodes.find((node) => Math.abs(node.degree - degree) < SAME);
  if (exact) return { kind: "computed", picture: exact, over: null, share: 0 };
  const below = nodes.filter((node) => node.degree < degree).at(-1);
  const above = nodes.find((node) => node.degree > degree);
  if (!below || !above) return { kind: "nearest", picture: below ?? above, over: null, share: 0 };
  const share = (degree - below.degree) / (above.degree - below.degree);
  return { kind: "between", picture: below, over: above, share };
}

/** The computed picture that is nearest. @template {{degree: number}} N @param {N[]} nodes @returns {N} */
export function nearest(nodes, degree) {
  return nodes.reduce((a, b) => (Math.abs(b.degree - degree) < Math.abs(a.degree - degree) ? b : a));
}

/** Put a computed picture in its place; of two at the same degree the new one stays. */
export function withNode(nodes, node) {
  const others = nodes.filter((each) => Math.abs(each.degree - node.degree) >= SAME);
  return [...others, node].sort((a, b) => a.degree - b.degree);
}

/** The next degree to compute: 1 first, then from 0 up. */
export function nextDegree(nodes, wanted) {
  const missing = wanted.filter((degree) => !nodes.some((node) => Math.abs(node.degree - degree) < SAME));
  return missing.includes(1) ? 1 : missing[0];
}
