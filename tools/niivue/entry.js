export { Niivue, NVImage } from "@niivue/niivue";
