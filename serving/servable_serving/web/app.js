// The page: puts its parts together and starts them.

import { Api } from "./api.js"
import { Controller } from "./controller.js"
import { connectControls, connectForm } from "./controls.js"
import { Server } from "./server.js"
import { connectSources } from "./sources.js"
import { Store } from "./store.js"
import { View } from "./view.js"

const query = new URLSearchParams(location.search)
const api = new Api()
const server = new Server(api, query.get("model") || "fashion_mnist", query.getAll("label"))
const controller = new Controller(new Store(), api, server, new View())

connectSources(controller)
connectControls(controller)
connectForm(controller)
void server.look()
