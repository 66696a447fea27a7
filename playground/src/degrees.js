// The degree slider: computed pictures are its nodes, between two of them their pixels are mixed.

const isSame = (a, b) => Math.abs(a - b) < 1e-6;

/**
 * What to show at a degree.
 * @template {{degree: number}} N @param {N[]} nodes computed pictures, in the order of their degrees
 * @param {number} degree
 * @returns {{kind: "computed" | "between" | "nearest", picture: N, over?: N, share?: number}}
 */
export function lookUp(nodes, degree) {
  const exact = nodes.find((node) => isSame(node.degree, degree));
  if (exact) return { kind: "computed", picture: exact };
  const [below, above] = [nodes.filter((node) => node.degree < degree).at(-1), nodes.find((node) => node.degree > degree)];
  if (!below || !above) return { kind: "nearest", picture: below ?? above };
  const share = (degree - below.degree) / (above.degree - below.degree);
  return { kind: "between", picture: below, over: above, share };
}

/** The computed picture that is nearest. @template {{degree: number}} N @param {N[]} nodes @returns {N} */
export const nearest = (nodes, degree) => (
  nodes.reduce((a, b) => (Math.abs(b.degree - degree) < Math.abs(a.degree - degree) ? b : a)));

/** The nodes with a new one in its place; of two at the same degree the new one stays. */
export const withNode = (nodes, node) => (
  [...nodes.filter((each) => !isSame(each.degree, node.degree)), node].sort((a, b) => a.degree - b.degree));

/** The next degree to compute: 1 first, then from the lowest up; undefined where all are there. */
export function nextDegree(nodes, wanted) {
  const missing = wanted.filter((degree) => !nodes.some((node) => isSame(node.degree, degree)));
  return missing.includes(1) ? 1 : missing[0];
}
