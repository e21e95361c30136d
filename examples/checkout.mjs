// A shop's checkout: hold the tickets while the buyer pays, then sell them.
//
//     node checkout.mjs EVENT QUANTITY [PORT [HOST]]

import { randomUUID } from "node:crypto";
import { Refused, Ticketd } from "./ticketd.mjs";

// In place of your payment provider.
async function pay(order) {
  console.error(`order ${order} is paid`);
  return true;
}

async function checkout(ticketd, event, quantity) {
  // The number of the order is the id of the booking. Write it down before you ask: it settles whatever happens.
  const order = randomUUID();
  const held = await ticketd.settle({ cmd: "hold", event, quantity, seconds: 600, booking: order });
  console.error(`${quantity} held until ${held.expires}`);
  if (!(await pay(order))) {
    await ticketd.settle({ cmd: "release", booking: order });
    return [];
  }
  // `late`: who has paid gets the tickets even if the hold has just run out, as long as they are there. If they are
  // not, this is hold_expired: pay the buyer back.
  const sold = await ticketd.settle({ cmd: "confirm", booking: order, late: true });
  return sold.tickets;
}

const [event, quantity, port, host] = process.argv.slice(2);
const ticketd = new Ticketd(port && Number(port), host);
try {
  for (const ticket of await checkout(ticketd, event, Number(quantity))) console.log(ticket);
} catch (error) {
  if (!(error instanceof Refused)) throw error;
  console.error(error.message);
  process.exitCode = 1;
} finally {
  ticketd.close();
}
