// The model: ONNX graphs behind the verbs of ditlens.Model.

/** Text, image and numbers go through these graphs; see ditlens.models.graphs. */
export const GRAPHS = ["transformer", "text", "decoder", "encoder", "oracle"];

export class Model {
  /**
   * @param {object} ort onnxruntime-web
   * @param {Object<string, object>} sessions by graph
   * @param {object} tokenizer of @huggingface/tokenizers
   * @param {object} recipe recipe.json
   * @param {object} table words.json
   */
  constructor(ort, sessions, tokenizer, recipe, table) {
    Object.assign(this, { ort, sessions, tokenizer, recipe, table });
    this.size = recipe.latents.reduce((a, b) => a * b);
    this.texts = new Map();
  }

  tensor(values, dims) {
    return new this.ort.Tensor(values instanceof BigInt64Array ? "int64" : "float32", values, dims);
  }

  /** One or more outputs of a graph. */
  async run(graph, inputs, outputs) {
    return this.sessions[graph].run(inputs, outputs);
  }

  /** Ids of a text between start and end mark, cut to what the encoders read. */
  ids(text) {
    const { bos, eos } = this.recipe.special;
    const inner = this.tokenizer.encode(text, { add_special_tokens: false }).ids;
    return [bos, ...inner.slice(0, this.recipe.rows - 2), eos];
  }

  /** The words (and signs) of a text, with the row of the token matrix in which each begins. */
  words(text) {
    const pieces = this.ids(text).slice(1, -1).map((id) => this.tokenizer.id_to_token(id));
    const words = [];
    let open = false;
    pieces.forEach((piece, i) => {
      const end = piece.endsWith("</w>");
      const letters = end ? piece.slice(0, -4) : piece;
      if (open) words.at(-1).text += letters;
      else words.push({ text: letters, row: i + 1 });
      open = !end;
    });
    return words;
  }

  /** Token matrix and pooled vector of a text; the last ones are kept. */
  async encodeText(text) {
    if (!this.texts.has(text)) {
      const { rows, special } = this.recipe;
      const ids = new BigInt64Array(rows).fill(BigInt(special.pad));
      this.ids(text).forEach((id, i) => (ids[i] = BigInt(id)));
      const inputs = { ids_1: this.tensor(ids, [1, rows]), ids_2: this.tensor(ids, [1, rows]) };
      const { tokens, pooled } = await this.run("text", inputs, ["tokens", "pooled"]);
      if (this.texts.size > 50) this.texts.clear();
      this.texts.set(text, { tokens: tokens.data, pooled: pooled.data });
    }
    return this.texts.get(text);
  }

  /** Latents of a picture (3 * side * side values in [0, 1]). */
  async encode(pixels) {
    const { side } = this.recipe;
    const found = await this.run("encoder", { pixels: this.tensor(pixels, [1, 3, side, side]) }, ["latents"]);
    return found.latents.data;
  }

  /** The picture of latents. */
  async decode(latents) {
    const inputs = { latents: this.tensor(latents, [1, ...this.recipe.latents]) };
    return (await this.run("decoder", inputs, ["pixels"])).pixels.data;
  }

  /**
   * The velocity field: (sigma, rows of {latents, text}) to velocities, in one call of the transformer.
   * @param {(attention: Float32Array) => void} [record] gets what the last row attends to:
   *   (blocks, rows, rows), the mean over heads
   */
  field(record) {
    return async (sigma, rows) => {
      const batch = rows.length;
      const width = this.recipe.rows;
      const inputs = {
        latents: this.tensor(joined(rows.map((row) => row.latents)), [batch, ...this.recipe.latents]),
        tokens: this.tensor(joined(rows.map((row) => row.text.tokens)), [batch, width, rows[0].text.tokens.length / width]),
        pooled: this.tensor(joined(rows.map((row) => row.text.pooled)), [batch, rows[0].text.pooled.length]),
        timestep: this.tensor(new Float32Array(batch).fill(1000 * sigma), [batch]),
      };
      const found = await this.run("transformer", inputs, record ? ["velocity", "attention"] : ["velocity"]);
      const one = found.velocity.data.length / batch;
      record?.(found.attention.data.slice(-found.attention.data.length / batch));
      return rows.map((_, i) => found.velocity.data.slice(i * one, (i + 1) * one));
    };
  }

  /** The attributes of a picture as the oracle reads them, as Python's describe_values gives them. */
  async measure(pixels) {
    const { side } = this.recipe;
    const found = await this.run("oracle", { pixels: this.tensor(pixels, [1, 3, side, side]) }, ["readings"]);
    const readings = [...found.readings.data];
    const values = {};
    for (const [name, spec] of Object.entries(this.table.attributes)) {
      if (spec.kind === "continuous") {
        const share = (Math.min(1, Math.max(-1, readings.shift())) + 1) / 2;
        values[name] = Math.round((share * (spec.high - spec.low) + spec.low) * 1e4) / 1e4;
      } else {
        const logits = readings.splice(0, spec.levels.length);
        values[name] = spec.levels[logits.indexOf(Math.max(...logits))].value;
      }
    }
    return values;
  }
}

/** Arrays one after the other. */
export function joined(parts) {
  const found = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    found.set(part, at);
    at += part.length;
  }
  return found;
}
