// Standard normal numbers as torch.randn draws them on the CPU from a seed: to the last digits but one.

const SIZE = 624;
const SHIFT = 397;

/** The Mersenne Twister, from which PyTorch draws, too. */
class Twister {
  /** @param {number} seed 0 to 2**32 - 1 */
  constructor(seed) {
    this.state = new Uint32Array(SIZE);
    this.state[0] = seed >>> 0;
    for (let i = 1; i < SIZE; i++) {
      const before = this.state[i - 1] ^ (this.state[i - 1] >>> 30);
      this.state[i] = Math.imul(1812433253, before) + i;
    }
    this.next = SIZE;
  }

  /** The next 32 random bits. */
  draw() {
    if (this.next === SIZE) this.twist();
    let bits = this.state[this.next++];
    bits ^= bits >>> 11;
    bits ^= (bits << 7) & 0x9d2c5680;
    bits ^= (bits << 15) & 0xefc60000;
    return (bits ^ (bits >>> 18)) >>> 0;
  }

  twist() {
    const state = this.state;
    for (let i = 0; i < SIZE; i++) {
      const bits = (state[i] & 0x80000000) | (state[(i + 1) % SIZE] & 0x7fffffff);
      state[i] = state[(i + SHIFT) % SIZE] ^ (bits >>> 1) ^ (bits & 1 ? 0x9908b0df : 0);
    }
    this.next = 0;
  }
}

/** A generator of noise: the same seed gives the same pictures as in Python. */
export class Noise {
  /** @param {number} seed 0 to 2**32 - 1 */
  constructor(seed) {
    this.twister = new Twister(seed);
  }

  /**
   * @param {number} count a multiple of 16, as latents are: torch draws other numbers another way
   * @returns {Float32Array}
   */
  normal(count) {
    if (count % 16) throw new Error(`Noise comes in multiples of 16 numbers; ${count} were asked for.`);
    const values = new Float32Array(count);
    for (let i = 0; i < count; i++) values[i] = (this.twister.draw() & 0xffffff) / 0x1000000;
    for (let start = 0; start < count; start += 16) {
      for (let i = start; i < start + 8; i++) {
        const radius = Math.sqrt(-2 * Math.log(1 - values[i]));
        const angle = 2 * Math.PI * values[i + 8];
        values[i] = radius * Math.cos(angle);
        values[i + 8] = radius * Math.sin(angle);
      }
    }
    return values;
  }
}
