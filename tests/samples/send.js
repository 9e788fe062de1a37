const axios = require('axios');
const apiKey = 'sk_live_your_api_key_here';
async function sendMessage() {
try {
const response = await axios.post(
'https://api.example.com/integration/v1/messages/send',
{
instance: 'my-instance',
recipient: '+966501234567',
content: 'Hello from Node.js!'
},
{
headers: {
'X-API-Key': apiKey,
'Content-Type': 'application/json'
}
}
);
console.log('Message sent!', response.data);
} catch (error) {
console.error('Error:', error.response?.data || error.message);
}
}
sendMessage();
